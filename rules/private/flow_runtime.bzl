"""What the launcher of a flow finds in its runfiles: packages per environment, and first-party files."""

def _flow_runtime_impl(ctx):
    sites = {
        environment: [_runfile(file) for file in target.files.to_list()]
        for target, environment in ctx.attr.sites.items()
    }
    runfiles = ctx.runfiles().merge_all([dep[DefaultInfo].default_runfiles for dep in ctx.attr.deps])
    first_party = {
        file.short_path: _runfile(file)
        for file in depset(transitive = [runfiles.files] + [dep[DefaultInfo].files for dep in ctx.attr.deps]).to_list()
        if file.owner.workspace_name == "" and not file.is_directory
    }
    sites_json = ctx.actions.declare_file(ctx.label.name + ".sites.json")
    ctx.actions.write(sites_json, json.encode_indent(sites) + "\n")
    first_party_json = ctx.actions.declare_file(ctx.label.name + ".first_party.json")
    ctx.actions.write(first_party_json, json.encode_indent(first_party) + "\n")
    outputs = [sites_json, first_party_json]
    return [
        DefaultInfo(
            files = depset(outputs),
            runfiles = ctx.runfiles(
                outputs,
                transitive_files = depset(transitive = [target.files for target in ctx.attr.sites]),
            ).merge(runfiles),
        ),
        OutputGroupInfo(first_party = depset([first_party_json]), sites = depset([sites_json])),
    ]

def _runfile(file):
    """Path of a file relative to the workspace's directory in the runfiles tree."""
    return file.short_path

flow_runtime = rule(
    implementation = _flow_runtime_impl,
    doc = "Writes NAME.sites.json (environment to directories for sys.path) and NAME.first_party.json (path in the workspace to file).",
    attrs = {
        "deps": attr.label_list(doc = "First-party libraries."),
        "sites": attr.label_keyed_string_dict(doc = "Unpacked wheels, by target; the value is the environment."),
    },
)
