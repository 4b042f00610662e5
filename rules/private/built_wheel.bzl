"""A wheel that is built from a source, without network and from pinned build requirements."""

load("//rules/private/providers:wheel_info.bzl", "WheelInfo")

def _built_wheel_impl(ctx):
    wheel = ctx.actions.declare_file(ctx.attr.file)
    requirements = [target[WheelInfo].file for target in ctx.attr.requirements]
    arguments = ctx.actions.args()
    arguments.add("wheel")
    arguments.add("--source", ctx.file.source)
    arguments.add("--subdirectory", ctx.attr.subdirectory)
    arguments.add("--name", ctx.attr.distribution)
    arguments.add("--version", ctx.attr.version)
    arguments.add("--sha256", ctx.attr.sha256)
    arguments.add_all(requirements, before_each = "--requirement")
    arguments.add("--output", wheel)
    ctx.actions.run(
        executable = ctx.executable._build,
        arguments = [arguments],
        inputs = [ctx.file.source] + requirements,
        outputs = [wheel],
        mnemonic = "BuildWheel",
        progress_message = "Building wheel " + ctx.attr.file,
        # Where Bazel can, it keeps the network away; the builder does so itself as well.
        execution_requirements = {"block-network": "1"},
    )
    return [
        DefaultInfo(files = depset([wheel])),
        WheelInfo(
            direct_url = ctx.attr.direct_url,
            distribution = ctx.attr.distribution,
            file = wheel,
            sha256 = ctx.attr.sha256,
            version = ctx.attr.version,
        ),
    ]

built_wheel = rule(
    implementation = _built_wheel_impl,
    doc = "Builds a wheel; fails when it is not the one that the lock names.",
    attrs = {
        "direct_url": attr.string(doc = "Content of direct_url.json (PEP 610) for what is installed of it; empty when an index has the source."),
        "distribution": attr.string(mandatory = True, doc = "Normalized name of the distribution."),
        "file": attr.string(mandatory = True, doc = "File name of the wheel."),
        "requirements": attr.label_list(providers = [WheelInfo], doc = "The build requirements and all that they need."),
        "sha256": attr.string(mandatory = True, doc = "Hash that the wheel must have."),
        "source": attr.label(mandatory = True, allow_single_file = True, doc = "The source archive."),
        "subdirectory": attr.string(doc = "Where in the source the project lies."),
        "version": attr.string(mandatory = True, doc = "Version of the distribution."),
        "_build": attr.label(default = "//mfbazel/build", executable = True, cfg = "exec"),
    },
    provides = [WheelInfo],
)
