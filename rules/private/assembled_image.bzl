"""Images by the assembler that the build setting //rules:assembler names."""

load("@rules_oci//oci:defs.bzl", "oci_image", "oci_image_index")
load(":native_image.bzl", "native_image")
load(":native_index.bzl", "native_index")

# What a layout directory is named after is its image: the assemblers' targets differ by their directories.
_RULES_OCI = "_rules_oci/"
_NATIVE = "_native/"

def assembled_image(name, tags, visibility, **kwargs):
    """Declares an image of one platform.

    Args:
        name: name of the image.
        tags: tags of the target.
        visibility: visibility of the target.
        **kwargs: attributes that oci_image and native_image share.
    """
    hidden = _hidden(tags)
    oci_image(name = _RULES_OCI + name, **dict(kwargs, **hidden))
    native_image(name = _NATIVE + name, **dict(kwargs, **hidden))
    _chosen(name, tags, visibility)

def assembled_index(name, images, annotations, tags, visibility):
    """Declares an index over the images of several platforms.

    Args:
        name: name of the index.
        images: names of the images, each declared by assembled_image.
        annotations: file of KEY=VALUE lines.
        tags: tags of the target.
        visibility: visibility of the target.
    """
    hidden = _hidden(tags)
    oci_image_index(name = _RULES_OCI + name, annotations = annotations, images = [_RULES_OCI + image for image in images], **hidden)
    native_index(name = _NATIVE + name, annotations = annotations, images = [_NATIVE + image for image in images], **hidden)
    _chosen(name, tags, visibility)

def _hidden(tags):
    return {
        "tags": ["manual"] + [tag for tag in tags if tag != "manual"],
        "visibility": ["//visibility:private"],
    }

def _chosen(name, tags, visibility):
    native.alias(
        name = name,
        actual = select({
            Label("//rules/private:native_assembler"): _NATIVE + name,
            "//conditions:default": _RULES_OCI + name,
        }),
        tags = tags,
        visibility = visibility,
    )
