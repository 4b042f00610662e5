"""Checks a lock against its flow while building, so that no image is made from a stale one."""

def _flow_lock_check_impl(ctx):
    stamp = ctx.actions.declare_file(ctx.label.name + ".checked")
    locking = ctx.attr.locking[DefaultInfo]
    arguments = ctx.actions.args()
    arguments.add("test")
    arguments.add("--stamp", stamp)
    arguments.add_all(locking.files, format_each = "@%s")
    ctx.actions.run(
        executable = ctx.executable._lock,
        arguments = [arguments],
        inputs = depset([ctx.file.lock] + ctx.files.lock_files, transitive = [locking.default_runfiles.files]),
        outputs = [stamp],
        mnemonic = "FlowLockCheck",
        progress_message = "Comparing the lock of {} with the flow".format(ctx.attr.flow_label),
    )
    return [DefaultInfo(files = depset([stamp]))]

flow_lock_check = rule(
    implementation = _flow_lock_check_impl,
    doc = "Fails, naming the step, the package and the command to run, when the lock of a flow is stale.",
    attrs = {
        "flow_label": attr.string(mandatory = True, doc = "The flow as on a command line, //package:name."),
        "lock": attr.label(mandatory = True, allow_single_file = True, doc = "flow.json of the lock."),
        "lock_files": attr.label_list(allow_files = True, doc = "The other files of the lock."),
        "locking": attr.label(mandatory = True, doc = "The flow_locking of the flow."),
        "_lock": attr.label(default = "//mfbazel/lock", executable = True, cfg = "exec"),
    },
)
