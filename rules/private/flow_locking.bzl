"""How a flow is locked, as arguments of mfbazel.lock."""

load("//rules/private/providers:flow_reading_info.bzl", "FlowReadingInfo")

def _wheel_arguments(ctx, target):
    """What the lock is told of a wheel of this workspace: its label, and where it is to be read."""
    files = target[DefaultInfo].files.to_list()
    label = str(target.label).removeprefix("@@").removeprefix("@")
    if not label.startswith("//"):
        fail("{}: attribute `wheels`: {} is not of this workspace; put a wheel of it on your index, or check it in".format(ctx.attr.flow_label, target.label))
    if len(files) != 1:
        fail("{}: attribute `wheels`: {} has {} files, and is to have one, a wheel".format(ctx.attr.flow_label, label, len(files)))
    return ["--wheel" if files[0].is_source else "--wheel-target", "{}={}".format(label, files[0].path)]

def _flow_locking_impl(ctx):
    reading = ctx.attr.reading[FlowReadingInfo]
    lines = reading.arguments + ["--lock-dir", ctx.attr.lock_dir, "--label", ctx.attr.flow_label] + ctx.attr.options
    for file in ctx.files.policy:
        if file.basename == "mfbazel.toml":
            lines += ["--policy", file.path]
    for target in ctx.attr.wheels:
        lines += _wheel_arguments(ctx, target)
    for line in lines:
        if "\n" in line:
            fail("{}: an argument must be one line: {}".format(ctx.label, repr(line)))
    arguments = ctx.actions.declare_file(ctx.label.name + ".args")
    ctx.actions.write(arguments, "\n".join(lines) + "\n")
    inputs = depset(ctx.files.policy + ctx.files.wheels, transitive = [reading.files])
    return [
        DefaultInfo(
            files = depset([arguments]),
            runfiles = ctx.runfiles([arguments], transitive_files = inputs),
        ),
        OutputGroupInfo(locking = depset([arguments], transitive = [inputs])),
    ]

flow_locking = rule(
    implementation = _flow_locking_impl,
    doc = """NAME.args: the options of mfbazel.lock for a flow, one argument per line. All files that they name are its runfiles.

//:lock_all finds the flows of a workspace by this rule, and takes its output group `locking`: the arguments and all files that they name.""",
    attrs = {
        "flow_label": attr.string(mandatory = True, doc = "The flow as on a command line, //package:name."),
        "lock_dir": attr.string(mandatory = True, doc = "The lock directory, from the workspace's root."),
        "options": attr.string_list(doc = "Options of the lock."),
        "policy": attr.label(default = "@mfbazel_policy//:policy", allow_files = True, doc = "mfbazel.toml and the files that it names."),
        "wheels": attr.label_list(allow_files = [".whl"], doc = "Wheels of this workspace."),
        "reading": attr.label(mandatory = True, providers = [FlowReadingInfo], doc = "The flow_reading of the flow."),
    },
)
