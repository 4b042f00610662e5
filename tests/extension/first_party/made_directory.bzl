"""A directory that an action makes."""

def _made_directory_impl(ctx):
    directory = ctx.actions.declare_directory(ctx.label.name)
    arguments = ctx.actions.args()
    arguments.add(directory.path)
    for path, content in ctx.attr.files.items():
        arguments.add(path)
        arguments.add(content)
    ctx.actions.run_shell(
        outputs = [directory],
        command = 'cd "$1"; shift; while [ $# -gt 0 ]; do mkdir -p "$(dirname "$1")"; printf %s "$2" > "$1"; shift 2; done',
        arguments = [arguments],
        mnemonic = "MakeDirectory",
    )
    return [DefaultInfo(files = depset([directory]), runfiles = ctx.runfiles([directory]))]

made_directory = rule(
    implementation = _made_directory_impl,
    attrs = {"files": attr.string_dict(doc = "Content by path.")},
)
