"""How a flow is read, as arguments that every command line of a flow starts with."""

load("//rules/private/providers:flow_reading_info.bzl", "FlowReadingInfo")
load(":import_roots.bzl", "import_roots")

def _flow_reading_impl(ctx):
    lines = ["--flow", ctx.file.flow.path]
    for root in import_roots(ctx, ctx.attr.deps):
        lines += ["--first-party", root]
    for target, name in ctx.attr.configs.items():
        lines += ["--config", "{}={}".format(name, target[DefaultInfo].files.to_list()[0].path)]
    for name, value in ctx.attr.config_values.items():
        lines += ["--config-value", "{}={}".format(name, value)]
    for name, distribution in ctx.attr.conda_names.items():
        lines += ["--conda-name", "{}={}".format(name, distribution)]
    if ctx.file.project:
        lines += ["--project", ctx.file.project.path]
    if ctx.attr.python:
        lines += ["--python", ctx.attr.python]
    lines += ["--read", ctx.attr.read]
    for line in lines:
        if "\n" in line:
            fail("{}: an argument must be one line: {}".format(ctx.label, repr(line)))
    arguments = ctx.actions.declare_file(ctx.label.name + ".args")
    ctx.actions.write(arguments, "\n".join(lines) + "\n")
    files = [ctx.file.flow] + ctx.files.configs + ctx.files.project + ctx.files.project_lock
    runfiles = ctx.runfiles(files).merge_all([dep[DefaultInfo].default_runfiles for dep in ctx.attr.deps])
    return [
        DefaultInfo(files = depset([arguments]), runfiles = ctx.runfiles([arguments]).merge(runfiles)),
        FlowReadingInfo(arguments = lines, files = runfiles.files),
    ]

flow_reading = rule(
    implementation = _flow_reading_impl,
    doc = "NAME.args: the options of mfbazel.analyze for a flow, one argument per line. All files that they name are its runfiles.",
    attrs = {
        "conda_names": attr.string_dict(doc = "Distributions by conda name."),
        "config_values": attr.string_dict(doc = "JSON values by the name of a Config."),
        "configs": attr.label_keyed_string_dict(allow_files = True, doc = "Files, and the name of the Config that each is for."),
        "deps": attr.label_list(doc = "First-party libraries of the flow."),
        "flow": attr.label(mandatory = True, allow_single_file = [".py"], doc = "The flow's source."),
        "project": attr.label(allow_single_file = True, doc = "pyproject.toml whose dependencies every step gets."),
        "project_lock": attr.label(allow_single_file = True, doc = "The uv.lock beside it."),
        "python": attr.string(doc = "Python of steps that declare none."),
        "read": attr.string(default = "auto", values = ["auto", "static", "dynamic"], doc = "How the flow is read."),
    },
    provides = [FlowReadingInfo],
)
