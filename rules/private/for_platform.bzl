"""A target, built for one of the platforms of images."""

# Platforms of images, as locks name them, to what Bazel is told.
PLATFORMS = {
    "linux/amd64": Label("//rules/private/platforms:linux_amd64"),
    "linux/arm64": Label("//rules/private/platforms:linux_arm64"),
}

def _to_platform_impl(_settings, attr):
    return {"//command_line_option:platforms": [str(PLATFORMS[attr.platform])]}

to_platform = transition(
    implementation = _to_platform_impl,
    inputs = [],
    outputs = ["//command_line_option:platforms"],
)

def _for_platform_impl(ctx):
    actual = ctx.attr.actual[0][DefaultInfo]
    return [DefaultInfo(files = actual.files, runfiles = actual.default_runfiles)]

for_platform = rule(
    implementation = _for_platform_impl,
    doc = "The files of a target, built for a platform whatever the build is for.",
    attrs = {
        "actual": attr.label(mandatory = True, allow_files = True, cfg = to_platform, doc = "The target."),
        "platform": attr.string(mandatory = True, values = PLATFORMS.keys(), doc = "The platform, as locks name it."),
        "_allowlist_function_transition": attr.label(default = "@bazel_tools//tools/allowlists/function_transition_allowlist"),
    },
)
