"""A base image from Debian packages: a userland and Python."""

load(":layers.bzl", "LAYER_TOOL", "declare_layer", "layer_providers")

def _debian_layer_impl(ctx):
    layer, arguments, outputs = declare_layer(ctx, "debian", ctx.label.name, "{} Debian packages".format(len(ctx.files.debs)))
    packages = ctx.actions.declare_file(ctx.label.name + ".packages.json")
    arguments.add("--python", ctx.attr.python)
    arguments.add("--packages", packages)
    arguments.add_all(ctx.files.debs, before_each = "--deb")
    ctx.actions.run(
        executable = ctx.executable._image,
        arguments = [arguments],
        inputs = ctx.files.debs,
        outputs = outputs + [packages],
        mnemonic = "DebianLayer",
        progress_message = "Making the base layer of {} Debian packages".format(len(ctx.files.debs)),
    )
    return layer_providers(layer, packages = depset([packages]))

debian_layer = rule(
    implementation = _debian_layer_impl,
    doc = "One layer that holds the files of Debian packages. The output group `packages` lists their versions and hashes.",
    attrs = dict(
        LAYER_TOOL,
        debs = attr.label_list(mandatory = True, allow_files = [".deb"], doc = "The packages, dependencies included."),
        python = attr.string(mandatory = True, doc = "Version (X.Y) of the Python among them."),
        _image = attr.label(default = "//mfbazel/image", executable = True, cfg = "exec"),
    ),
)
