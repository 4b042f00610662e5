"""What a layer is to the rules that assemble images."""

LayerInfo = provider(
    doc = "One layer of an image, and what is known of it without reading it again.",
    fields = {
        "blob": "File: the layer as it is pushed (tar, tar+gzip or tar+zstd).",
        "descriptor": "File: JSON, the blob's OCI descriptor (image-spec) with the additional field diffID.",
        "history": "string: what the history of an image says of the layer; nothing of the target's name, so that equal images stay equal.",
        "files": "File or None: the paths in the layer, one per line, with content hash and distribution, separated by tabs.",
    },
)

LayersInfo = provider(
    doc = "The layers that go into one image together.",
    fields = {
        "layers": "list of LayerInfo, from the bottom to the top.",
    },
)

AllLayersInfo = provider(
    doc = "The layers of an image, with those of the images that it is derived from.",
    fields = {
        "layers": "list of LayerInfo, from the bottom to the top; the layers of the first image's base are not among them.",
    },
)
