"""A wheel of the workspace: a file that is checked in, or what a target makes."""

load("//rules/private/providers:wheel_info.bzl", "WheelInfo")

def _first_party_wheel_impl(ctx):
    wheel = ctx.file.src
    if ctx.attr.sha256:
        wheel = _checked(ctx)
    return [
        DefaultInfo(files = depset([wheel])),
        WheelInfo(
            direct_url = "",
            distribution = ctx.attr.distribution,
            file = wheel,
            sha256 = ctx.attr.sha256,
            version = ctx.attr.version,
        ),
    ]

def _checked(ctx):
    """The file, after its hash has been compared with the lock's."""
    wheel = ctx.actions.declare_file(ctx.file.src.basename)
    arguments = ctx.actions.args()
    arguments.add("check")
    arguments.add("--wheel", ctx.file.src)
    arguments.add("--sha256", ctx.attr.sha256)
    arguments.add("--output", wheel)
    ctx.actions.run(
        executable = ctx.executable._build,
        arguments = [arguments],
        inputs = [ctx.file.src],
        outputs = [wheel],
        mnemonic = "CheckWheel",
        progress_message = "Comparing {} with the lock".format(ctx.file.src.short_path),
    )
    return wheel

first_party_wheel = rule(
    implementation = _first_party_wheel_impl,
    doc = "Declares a wheel of the workspace; fails when a checked-in file is not the one that was locked.",
    attrs = {
        "distribution": attr.string(mandatory = True, doc = "Normalized name of the distribution."),
        "sha256": attr.string(doc = "Hash that a checked-in file must have; empty for what a target makes."),
        "src": attr.label(mandatory = True, allow_single_file = [".whl"], doc = "The wheel."),
        "version": attr.string(mandatory = True, doc = "Version of the distribution when it was locked."),
        "_build": attr.label(default = "//mfbazel/build", executable = True, cfg = "exec"),
    },
    provides = [WheelInfo],
)
