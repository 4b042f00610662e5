"""The workspace's policy, mfbazel.toml, as an input of actions that something may not be allowed in."""

POLICY_ATTRS = {
    "_policy": attr.label(default = "@mfbazel_policy//:policy", allow_files = True),
}

def add_policy(ctx, arguments):
    """Names the policy on a command line, where the workspace has one.

    Args:
        ctx: context of a rule or an aspect with POLICY_ATTRS.
        arguments: Args.

    Returns:
        list of files, inputs of the action.
    """
    files = [file for file in ctx.files._policy if file.basename == "mfbazel.toml"]
    arguments.add_all(files, before_each = "--policy")
    return files
