"""oci_image_index over mfbazel's native assembler."""

load(":image.bzl", "digest_target", "lines_file")

def _image_index_impl(ctx):
    output = ctx.actions.declare_directory(ctx.label.name)
    digest = ctx.actions.declare_file("_{}.digest".format(ctx.label.name))
    inputs = list(ctx.files.images)
    arguments = ctx.actions.args()
    arguments.add("index")
    arguments.add_all("--output", [output], expand_directories = False)
    arguments.add("--digest", digest)
    arguments.add_all("--image", ctx.files.images, expand_directories = False, map_each = _path)
    if ctx.file.annotations:
        arguments.add("--annotations-file", ctx.file.annotations)
        inputs.append(ctx.file.annotations)
    ctx.actions.run(
        executable = ctx.executable._image,
        arguments = [arguments],
        inputs = depset(inputs, transitive = [image[DefaultInfo].default_runfiles.files for image in ctx.attr.images]),
        outputs = [output, digest],
        mnemonic = "OCIIndex",
        progress_message = "Assembling index {}".format(ctx.label),
    )
    runfiles = ctx.runfiles([output]).merge_all([image[DefaultInfo].default_runfiles for image in ctx.attr.images])
    return [
        DefaultInfo(files = depset([output]), runfiles = runfiles),
        OutputGroupInfo(digest = depset([digest])),
    ]

def _path(file):
    return file.path

_image_index = rule(
    implementation = _image_index_impl,
    attrs = {
        "annotations": attr.label(allow_single_file = True),
        "images": attr.label_list(mandatory = True, allow_empty = False),
        "_image": attr.label(default = "@mfbazel//mfbazel/image", executable = True, cfg = "exec"),
    },
)

def oci_image_index(name, images, annotations = None, **kwargs):
    """An image index over images of several platforms; see oci_image_index of rules_oci.

    Args:
        name: name of the index.
        images: the images.
        annotations: dict, or file of KEY=VALUE lines.
        **kwargs: attributes that all rules have.
    """
    _image_index(
        name = name,
        annotations = lines_file(name, "annotations", annotations, {"tags": ["manual"]}),
        images = images,
        **kwargs
    )
    digest_target(name, tags = ["manual"], visibility = kwargs.get("visibility"))
