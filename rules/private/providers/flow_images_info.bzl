"""What the images of a flow are to the rules that push and load them."""

FlowImagesInfo = provider(
    doc = "The step images of one flow.",
    fields = {
        "images": "dict of string to File: the OCI layout directory of each step.",
        "json": "File: images.json of the build.",
        "label": "string: the flow as it is written on a command line, //package:name.",
    },
)
