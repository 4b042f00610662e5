"""Executables of the toolbox as a repository."""

def _toolbox_tools_impl(repository_ctx):
    for tool, name in repository_ctx.attr.tools.items():
        path = repository_ctx.which(tool)
        if not path:
            fail("{} is not on PATH: ./bazelw toolbox --remove and run the command again, which makes the toolbox anew".format(tool))
        repository_ctx.symlink(path, "bin/" + name)
    for script, name in repository_ctx.attr.scripts.items():
        repository_ctx.symlink(script, "bin/" + name)
    repository_ctx.file("BUILD.bazel", 'exports_files(glob(["bin/*"]))\n')

toolbox_tools = repository_rule(
    implementation = _toolbox_tools_impl,
    doc = "@NAME//:bin/TOOL: executables under the names that rules_oci calls them by.",
    attrs = {
        "scripts": attr.label_keyed_string_dict(doc = "Script to the name that it gets."),
        "tools": attr.string_dict(doc = "Executable on PATH to the name that it gets."),
    },
)
