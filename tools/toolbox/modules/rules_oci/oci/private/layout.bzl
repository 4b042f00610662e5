"""Source files of an OCI layout as one directory."""

def _oci_layout_impl(ctx):
    output = ctx.actions.declare_directory(ctx.label.name)
    marker = "/layout/"
    arguments = ctx.actions.args()
    arguments.add_all([output], expand_directories = False)
    for file in ctx.files.srcs:
        arguments.add_joined([file.path.split(marker)[-1], file], join_with = "=")
    ctx.actions.run_shell(
        command = 'out=$1; shift; for pair in "$@"; do mkdir -p "$(dirname "$out/${pair%%=*}")"; cp "${pair#*=}" "$out/${pair%%=*}"; done',
        arguments = [arguments],
        inputs = ctx.files.srcs,
        outputs = [output],
        mnemonic = "OCILayout",
        progress_message = "Collecting image {}".format(ctx.label),
    )
    return [DefaultInfo(files = depset([output]), runfiles = ctx.runfiles([output]))]

oci_layout = rule(
    implementation = _oci_layout_impl,
    attrs = {"srcs": attr.label_list(mandatory = True, allow_files = True)},
)
