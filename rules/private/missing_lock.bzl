"""Stands in for the targets of a flow that has no lock, or one that cannot be read."""

def _missing_lock_impl(ctx):
    fail("{} needs the lock of its flow, {}. Make it with: {}".format(ctx.label, ctx.attr.reason, ctx.attr.command))

missing_lock = rule(
    implementation = _missing_lock_impl,
    doc = "Fails with the command that makes the lock.",
    # So that `bazel run` gets as far as the message.
    executable = True,
    attrs = {
        "command": attr.string(mandatory = True, doc = "The command that makes the lock."),
        "reason": attr.string(default = "which does not exist yet", doc = "What is wrong with it."),
    },
)
