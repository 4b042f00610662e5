"""The native assembler: an OCI layout from descriptors, without reading a blob again."""

load("//rules/private/providers:layer_info.bzl", "LayerInfo", "LayersInfo")
load(":worker.bzl", "WORKER", "worker_arguments")

def _described_layers(ctx):
    """Layers of `tars`: those that carry a descriptor as they are, any other tar with one made here."""
    layers = []
    for target in ctx.attr.tars:
        if LayersInfo in target:
            layers += target[LayersInfo].layers
            continue
        for blob in target[DefaultInfo].files.to_list():
            descriptor = ctx.actions.declare_file("{}.{}.descriptor.json".format(ctx.label.name, len(layers)))
            arguments = ctx.actions.args()
            arguments.add("tar")
            arguments.add("--blob-in", blob)
            arguments.add("--descriptor", descriptor)
            ctx.actions.run(
                executable = ctx.executable._layer,
                arguments = [arguments],
                inputs = [blob],
                outputs = [descriptor],
                mnemonic = "LayerDescriptor",
                progress_message = "Describing layer " + blob.short_path,
            )
            layers.append(LayerInfo(blob = blob, descriptor = descriptor, files = None, history = ""))
    return layers

def _native_image_impl(ctx):
    if not ctx.attr.base and not (ctx.attr.os and ctx.attr.architecture):
        fail("{}: either base or both os and architecture must be given".format(ctx.label))
    if ctx.attr.base and (ctx.attr.os or ctx.attr.architecture or ctx.attr.variant):
        fail("{}: os, architecture and variant come from the base; remove them or the base".format(ctx.label))
    output = ctx.actions.declare_directory(ctx.label.name)
    digest = ctx.actions.declare_file("_{}.digest".format(ctx.label.name))
    layers = _described_layers(ctx)
    inputs = [layer.descriptor for layer in layers] + [layer.blob for layer in layers]
    arguments = worker_arguments(ctx)
    arguments.add("assemble")
    arguments.add_all("--output", [output], expand_directories = False)
    arguments.add("--digest", digest)
    if ctx.attr.base:
        arguments.add_all("--base", [ctx.file.base], expand_directories = False)
        inputs.append(ctx.file.base)
    for layer in layers:
        arguments.add_joined("--layer", [layer.blob, layer.descriptor] + ([layer.history] if layer.history else []), join_with = "=")
    for option in ["os", "architecture", "variant", "user", "workdir"]:
        if getattr(ctx.attr, option):
            arguments.add("--" + option, getattr(ctx.attr, option))
    for option in ["env", "labels", "annotations", "entrypoint", "cmd", "exposed_ports", "volumes", "created"]:
        file = getattr(ctx.file, option)
        if file:
            arguments.add("--{}-file".format(option.replace("_", "-")), file)
            inputs.append(file)
    ctx.actions.run(
        executable = ctx.executable._image,
        arguments = [arguments],
        inputs = inputs,
        outputs = [output, digest],
        execution_requirements = WORKER,
        mnemonic = "OCIImage",
        progress_message = "Assembling image {}".format(ctx.label),
    )
    runfiles = ctx.runfiles([layer.blob for layer in layers])
    if ctx.attr.base:
        runfiles = runfiles.merge(ctx.runfiles([ctx.file.base])).merge(ctx.attr.base[DefaultInfo].default_runfiles)
    return [
        DefaultInfo(files = depset([output]), runfiles = runfiles.merge(ctx.runfiles([output]))),
        OutputGroupInfo(digest = depset([digest])),
    ]

native_image = rule(
    implementation = _native_image_impl,
    doc = "An OCI layout directory named after the target. Its blobs are links to the layers and to the base's blobs, which are in the runfiles.",
    attrs = {
        "annotations": attr.label(allow_single_file = True, doc = "Annotations of the manifest, KEY=VALUE lines."),
        "architecture": attr.string(doc = "Architecture, as Go names it; only without base."),
        "base": attr.label(allow_single_file = True, doc = "OCI layout directory of the base image."),
        "cmd": attr.label(allow_single_file = True, doc = "Arguments of the entrypoint, one per line."),
        "created": attr.label(allow_single_file = True, doc = "Time of creation, RFC 3339."),
        "entrypoint": attr.label(allow_single_file = True, doc = "Entrypoint, one argument per line; clears the base's cmd."),
        "env": attr.label(allow_single_file = True, doc = "Environment, KEY=VALUE lines; $VAR expands from the base."),
        "exposed_ports": attr.label(allow_single_file = True, doc = "Exposed ports, one per line."),
        "labels": attr.label(allow_single_file = True, doc = "Labels, KEY=VALUE lines."),
        "os": attr.string(doc = "Operating system; only without base."),
        "tars": attr.label_list(allow_files = True, doc = "Layers, from the bottom to the top."),
        "user": attr.string(doc = "User that the container runs as."),
        "variant": attr.string(doc = "Variant of the architecture; only without base."),
        "volumes": attr.label(allow_single_file = True, doc = "Volumes, one path per line."),
        "workdir": attr.string(doc = "Working directory."),
        "_image": attr.label(default = "//mfbazel/image", executable = True, cfg = "exec"),
        "_layer": attr.label(default = "//mfbazel/layer", executable = True, cfg = "exec"),
    },
)
