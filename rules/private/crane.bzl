"""crane, from the toolchain that rules_oci declares."""

_TOOLCHAIN = "@rules_oci//oci:crane_toolchain_type"

def _crane_impl(ctx):
    executable = ctx.actions.declare_file(ctx.label.name)
    ctx.actions.symlink(
        output = executable,
        target_file = ctx.toolchains[_TOOLCHAIN].crane_info.binary,
        is_executable = True,
    )
    return [DefaultInfo(executable = executable, files = depset([executable]))]

crane = rule(
    implementation = _crane_impl,
    doc = "The crane executable, to stand in runfiles.",
    executable = True,
    toolchains = [_TOOLCHAIN],
)
