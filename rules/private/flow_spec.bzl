"""The spec of a flow as a build output."""

def _flow_spec_impl(ctx):
    spec = ctx.actions.declare_file(ctx.label.name + ".json")
    reading = ctx.attr.reading[DefaultInfo]
    arguments = ctx.actions.args()
    arguments.add_all(reading.files, format_each = "@%s")
    arguments.add("--output", spec)
    ctx.actions.run(
        executable = ctx.executable._analyze,
        arguments = [arguments],
        inputs = reading.default_runfiles.files,
        outputs = [spec],
        mnemonic = "FlowSpec",
        progress_message = "Reading the flow of %{label}",
    )
    return [DefaultInfo(files = depset([spec]))]

flow_spec = rule(
    implementation = _flow_spec_impl,
    doc = "NAME.json: what mfbazel.analyze finds in a flow, as in docs/flow_spec.schema.json.",
    attrs = {
        "reading": attr.label(mandatory = True, doc = "The flow_reading of the flow."),
        "_analyze": attr.label(default = "//mfbazel/analyze", executable = True, cfg = "exec"),
    },
)
