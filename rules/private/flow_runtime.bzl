"""What the launcher of a flow finds in its runfiles: packages per environment, and first-party files."""

load(":import_roots.bzl", "first_party")

def _flow_runtime_impl(ctx):
    sites = {
        environment: [_runfile(file) for file in target.files.to_list()]
        for target, environment in ctx.attr.sites.items()
    }
    found = first_party(ctx, ctx.attr.deps)
    sites_json = ctx.actions.declare_file(ctx.label.name + ".sites.json")
    ctx.actions.write(sites_json, json.encode_indent(sites) + "\n")
    first_party_json = ctx.actions.declare_file(ctx.label.name + ".first_party.json")
    ctx.actions.write(first_party_json, json.encode_indent({path: _runfile(file) for path, file in found.files.items()}) + "\n")
    roots_json = ctx.actions.declare_file(ctx.label.name + ".import_roots.json")
    ctx.actions.write(roots_json, json.encode_indent(found.roots) + "\n")
    outputs = [sites_json, first_party_json, roots_json]
    return [
        DefaultInfo(
            files = depset(outputs),
            runfiles = ctx.runfiles(
                outputs,
                transitive_files = depset(transitive = [target.files for target in ctx.attr.sites]),
            ).merge(found.runfiles),
        ),
        OutputGroupInfo(first_party = depset([first_party_json]), sites = depset([sites_json])),
    ]

def _runfile(file):
    """Path of a file relative to the workspace's directory in the runfiles tree."""
    return file.short_path

flow_runtime = rule(
    implementation = _flow_runtime_impl,
    doc = "Writes NAME.sites.json (environment to directories for sys.path), NAME.first_party.json (path below an import root to file or directory) and NAME.import_roots.json.",
    attrs = {
        "deps": attr.label_list(doc = "First-party libraries."),
        "sites": attr.label_keyed_string_dict(doc = "Unpacked wheels, by target; the value is the environment."),
    },
)
