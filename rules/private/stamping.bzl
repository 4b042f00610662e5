"""Whether an action is told of the stamp variables of a build."""

StampInfo = provider(
    doc = "Whether the build is stamped.",
    fields = {"stamped": "bool: whether Bazel runs with --stamp."},
)

def _stamp_setting_impl(ctx):
    return [StampInfo(stamped = ctx.attr.stamped)]

stamp_setting = rule(
    implementation = _stamp_setting_impl,
    doc = "Carries the option --stamp, which a rule can ask for by `select` only.",
    attrs = {"stamped": attr.bool(mandatory = True, doc = "Whether Bazel runs with --stamp.")},
)

STAMP_ATTRS = {
    "stamp": attr.int(default = -1, values = [-1, 0, 1], doc = "1: always stamped; 0: never; -1: with --stamp."),
    "_stamped": attr.label(default = "//rules/private:stamped", providers = [StampInfo]),
}

def is_stamped(ctx):
    """Returns whether the target is stamped.

    Args:
        ctx: rule context with STAMP_ATTRS.
    """
    return ctx.attr.stamp == 1 or (ctx.attr.stamp == -1 and ctx.attr._stamped[StampInfo].stamped)

def add_status(ctx, arguments):
    """Adds the workspace status files to the arguments of an action, where the build is stamped.

    Args:
        ctx: rule context with STAMP_ATTRS.
        arguments: Args of an action that takes `--status`.

    Returns:
        list of the files, inputs of the action.
    """
    if not is_stamped(ctx):
        return []
    files = [ctx.info_file, ctx.version_file]
    arguments.add_all(files, before_each = "--status")
    return files
