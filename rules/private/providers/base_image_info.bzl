"""What a base image is to the rules that build on it."""

BaseImageInfo = provider(
    doc = "A base image, of one platform.",
    fields = {
        "files": "File: the paths of the image's files and links, as JSON (mfbazel.image.listing).",
        "layout": "File: OCI layout directory of the image; its layers are links into that of the base.",
    },
)
