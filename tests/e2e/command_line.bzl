"""command_line: what `bazel run` would execute, for tests that run a target themselves."""

_ArgsInfo = provider("Arguments of an executable target.", fields = {"args": "list of strings, locations expanded"})

def _args_aspect_impl(_target, ctx):
    targets = getattr(ctx.rule.attr, "data", [])
    return [_ArgsInfo(args = [ctx.expand_location(argument, targets) for argument in getattr(ctx.rule.attr, "args", [])])]

_args_aspect = aspect(
    implementation = _args_aspect_impl,
    doc = "Reads the attribute args.",
)

def _command_line_impl(ctx):
    output = ctx.actions.declare_file(ctx.label.name + ".json")
    command = [ctx.executable.target.short_path] + ctx.attr.target[_ArgsInfo].args
    ctx.actions.write(output, json.encode_indent(command) + "\n")
    return [DefaultInfo(
        files = depset([output]),
        runfiles = ctx.runfiles([output]).merge(ctx.attr.target[DefaultInfo].default_runfiles),
    )]

command_line = rule(
    implementation = _command_line_impl,
    doc = "NAME.json: the list of words that `bazel run` executes for a target, paths relative to the workspace's directory in the runfiles tree.",
    attrs = {
        "target": attr.label(mandatory = True, executable = True, cfg = "target", aspects = [_args_aspect], doc = "What to run."),
    },
)
