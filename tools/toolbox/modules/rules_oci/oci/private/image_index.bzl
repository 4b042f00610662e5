"""oci_image_index over mfbazel's native assembler."""

# This module is a part of mfbazel: the rule is not for anybody else.
load("@mfbazel//rules/private:native_index.bzl", "native_index")  # buildifier: disable=bzl-visibility
load(":image.bzl", "digest_target", "lines_file")

def oci_image_index(name, images, annotations = None, **kwargs):
    """An image index over images of several platforms; see oci_image_index of rules_oci.

    Args:
        name: name of the index.
        images: the images.
        annotations: dict, or file of KEY=VALUE lines.
        **kwargs: attributes that all rules have.
    """
    native_index(
        name = name,
        annotations = lines_file(name, "annotations", annotations, {"tags": ["manual"]}),
        images = images,
        **kwargs
    )
    digest_target(name, tags = ["manual"], visibility = kwargs.get("visibility"))
