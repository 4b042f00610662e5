"""A lock and an image of two platforms, as files of a build."""

def _index_case_impl(ctx):
    lock = ctx.actions.declare_file("demo.lock/flow.json")
    image = ctx.actions.declare_directory(ctx.label.name + ".image")
    arguments = ctx.actions.args()
    arguments.add(lock)
    arguments.add_all([image], expand_directories = False)
    ctx.actions.run(executable = ctx.executable._writer, arguments = [arguments], outputs = [lock, image], mnemonic = "IndexCase")
    return [DefaultInfo(files = depset([image])), OutputGroupInfo(lock = depset([lock]))]

index_case = rule(
    implementation = _index_case_impl,
    doc = "The image; output group `lock` is flow.json of the lock.",
    attrs = {
        "_writer": attr.label(default = "//tests/sbom:write_index_case", executable = True, cfg = "exec"),
    },
)
