"""A wheel of a lock, and its content unpacked for the machine that builds."""

load("@bazel_skylib//rules:common_settings.bzl", "BuildSettingInfo")
load("//rules/private/providers:wheel_info.bzl", "WheelInfo")

def _wheel_impl(ctx):
    return [
        DefaultInfo(files = depset([ctx.file.src])),
        WheelInfo(
            direct_url = "",
            distribution = ctx.attr.distribution,
            file = ctx.file.src,
            sha256 = ctx.attr.sha256,
            version = ctx.attr.version,
        ),
    ]

wheel = rule(
    implementation = _wheel_impl,
    doc = "Declares the wheel file of a wheel repository.",
    attrs = {
        "distribution": attr.string(mandatory = True, doc = "Normalized name of the distribution."),
        "sha256": attr.string(mandatory = True, doc = "Hash of the file; the repository rule has checked it."),
        "src": attr.label(mandatory = True, allow_single_file = [".whl"], doc = "The wheel."),
        "version": attr.string(mandatory = True, doc = "Version of the distribution."),
    },
    provides = [WheelInfo],
)

def _wheel_site_impl(ctx):
    site = ctx.actions.declare_directory(ctx.label.name)
    wheel_file = ctx.attr.wheel[WheelInfo].file
    arguments = ctx.actions.args()
    limits = ctx.attr._limits[BuildSettingInfo].value
    if limits:
        arguments.add("--limits", limits)
    if ctx.attr.bytecode:
        arguments.add("--bytecode")
    arguments.add(wheel_file)
    arguments.add_all([site], expand_directories = False)
    ctx.actions.run(
        executable = ctx.executable._unpack,
        arguments = [arguments],
        inputs = [wheel_file],
        outputs = [site],
        mnemonic = "UnpackWheel",
        progress_message = "Unpacking wheel " + wheel_file.basename,
    )
    return [DefaultInfo(files = depset([site]), runfiles = ctx.runfiles([site]))]

wheel_site = rule(
    implementation = _wheel_site_impl,
    doc = "Unpacks a wheel into a directory that can stand on sys.path. Images do not use it.",
    attrs = {
        "bytecode": attr.bool(doc = "Whether byte code of the Python that unpacks lies beside the sources."),
        "wheel": attr.label(mandatory = True, providers = [WheelInfo], doc = "The wheel."),
        "_limits": attr.label(default = "//rules:wheel_limits", providers = [BuildSettingInfo]),
        "_unpack": attr.label(default = "//mfbazel/wheel:unpack", executable = True, cfg = "exec"),
    },
)
