"""Executables over the images of a flow: push, load and shell."""

load("//rules/private/providers:flow_images_info.bzl", "FlowImagesInfo")
load(":flow_signing.bzl", "signing_options")

def _flow_command_impl(ctx):
    info = ctx.attr.images[FlowImagesInfo]
    lines = [ctx.attr.command]
    if ctx.attr.command == "flow":
        lines += ["--label", info.label, "--images", info.json.short_path, "--crane", ctx.executable._crane.short_path]
    elif ctx.attr.command == "load":
        lines += ["--tag", info.label.removeprefix("//").removeprefix(":").replace(":", "/").lower()]
    lines += signing_options(ctx.attr.sign, ctx.attr.sign_options)
    documents = [ctx.attr.sboms[OutputGroupInfo][kind] for kind in ctx.attr.attach]
    files = depset(transitive = documents).to_list()
    for document in files:
        lines += ["--attach", document.short_path]
    for step, image in info.images.items():
        lines += ["--image", "{}={}".format(step, image.short_path)]
    arguments = ctx.actions.declare_file(ctx.label.name + ".args")
    ctx.actions.write(arguments, "\n".join(lines) + "\n")
    images = ctx.attr.images[DefaultInfo].default_runfiles
    groups = {}
    if ctx.attr.command == "flow":
        delivery = _delivery(ctx, info, files)
        groups["push"] = depset([delivery] + files, transitive = [images.files])
    return [
        DefaultInfo(
            files = depset([arguments]),
            runfiles = ctx.runfiles([arguments, ctx.executable._crane] + files).merge(images),
        ),
        OutputGroupInfo(**groups),
    ]

def _delivery(ctx, info, documents):
    """The file that //:push_all, which has no runfiles of the flows, reads: what is pushed and how, with paths in the execution root."""
    delivery = ctx.actions.declare_file(ctx.label.name + "/push.json")
    ctx.actions.write(delivery, json.encode_indent({
        "attach": [document.path for document in documents],
        "images": info.json.path,
        "label": info.label,
        "layouts": [[step, image.path] for step, image in info.images.items()],
        "sign": ctx.attr.sign or None,
        "sign_options": ctx.attr.sign_options,
    }) + "\n")
    return delivery

flow_command = rule(
    implementation = _flow_command_impl,
    doc = "The arguments, one per line, with which mfbazel.push or mfbazel.container works on the images of a flow, and all files that they name.",
    attrs = {
        "attach": attr.string_list(doc = "Output groups of `sboms` that are attached to the images."),
        "command": attr.string(mandatory = True, values = ["flow", "load", "shell"], doc = "Subcommand of mfbazel.push; shell: of mfbazel.container."),
        "images": attr.label(mandatory = True, providers = [FlowImagesInfo], doc = "The images."),
        "sboms": attr.label(doc = "The documents about the images (flow_sboms)."),
        "sign": attr.string(doc = "Name of the signer; empty for none."),
        "sign_options": attr.string_dict(doc = "Options of the signer."),
        "_crane": attr.label(default = "//rules/private:crane", executable = True, cfg = "target"),
    },
)
