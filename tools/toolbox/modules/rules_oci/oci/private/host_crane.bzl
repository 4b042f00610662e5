"""The crane that the toolbox has, as a toolchain."""

CraneInfo = provider(
    doc = "How to run crane.",
    fields = {"binary": "File: the executable."},
)

def _crane_toolchain_impl(ctx):
    return [platform_common.ToolchainInfo(crane_info = CraneInfo(binary = ctx.file.binary))]

crane_toolchain = rule(
    implementation = _crane_toolchain_impl,
    attrs = {"binary": attr.label(mandatory = True, allow_single_file = True)},
)

_BUILD = """\
load("{bzl}", "crane_toolchain")

crane_toolchain(
    name = "crane",
    binary = "bin/crane",
)

toolchain(
    name = "toolchain",
    exec_compatible_with = ["{linux}"],
    toolchain = ":crane",
    toolchain_type = "{type}",
)
"""

def _host_crane_repository_impl(repository_ctx):
    crane = repository_ctx.which("crane")
    if not crane:
        fail("crane is not on PATH: ./bazelw toolbox --remove and run the command again, which makes the toolbox anew")
    repository_ctx.symlink(crane, "bin/crane")
    repository_ctx.file("BUILD.bazel", _BUILD.format(
        bzl = Label(":host_crane.bzl"),
        linux = Label("@platforms//os:linux"),
        type = Label("//oci:crane_toolchain_type"),
    ))

_host_crane_repository = repository_rule(implementation = _host_crane_repository_impl)

def _host_crane_impl(_module_ctx):
    _host_crane_repository(name = "oci_host_crane")

host_crane = module_extension(implementation = _host_crane_impl)
