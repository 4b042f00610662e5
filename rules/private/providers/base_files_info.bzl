"""What a base image is to the rules that build on it."""

BaseFilesInfo = provider(
    doc = "The files of a base image.",
    fields = {
        "listing": "File: the paths of the image's files and links, as JSON (mfbazel.image.listing).",
    },
)
