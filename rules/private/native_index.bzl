"""The native assembler of indexes: images of several platforms as one OCI layout."""

load(":worker.bzl", "WORKER", "worker_arguments")

def _native_index_impl(ctx):
    output = ctx.actions.declare_directory(ctx.label.name)
    digest = ctx.actions.declare_file("_{}.digest".format(ctx.label.name.replace("/", "_")))
    inputs = list(ctx.files.images)
    arguments = worker_arguments(ctx)
    arguments.add("index")
    arguments.add_all("--output", [output], expand_directories = False)
    arguments.add("--digest", digest)
    arguments.add_all("--image", ctx.files.images, expand_directories = False)
    if ctx.file.annotations:
        arguments.add("--annotations-file", ctx.file.annotations)
        inputs.append(ctx.file.annotations)
    ctx.actions.run(
        executable = ctx.executable._image,
        arguments = [arguments],
        inputs = depset(inputs, transitive = [image[DefaultInfo].default_runfiles.files for image in ctx.attr.images]),
        outputs = [output, digest],
        execution_requirements = WORKER,
        mnemonic = "OCIIndex",
        progress_message = "Assembling index {}".format(ctx.label),
    )
    runfiles = ctx.runfiles([output]).merge_all([image[DefaultInfo].default_runfiles for image in ctx.attr.images])
    return [
        DefaultInfo(files = depset([output]), runfiles = runfiles),
        OutputGroupInfo(digest = depset([digest])),
    ]

native_index = rule(
    implementation = _native_index_impl,
    doc = "An OCI layout directory named after the target, over the images; their blobs are linked.",
    attrs = {
        "annotations": attr.label(allow_single_file = True, doc = "Annotations of the index, KEY=VALUE lines."),
        "images": attr.label_list(mandatory = True, allow_empty = False, doc = "The images, OCI layout directories."),
        "_image": attr.label(default = "//mfbazel/image", executable = True, cfg = "exec"),
    },
)
