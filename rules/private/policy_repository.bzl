"""The repository that holds the workspace's policy: mfbazel.toml and the files that it names."""

def _policy_repository_impl(repository_ctx):
    files = repository_ctx.attr.files
    for path, content in files.items():
        repository_ctx.file(path, content, executable = False)

    # Of a path only what is below the root is one package: no file of the policy is called BUILD.
    repository_ctx.file("BUILD.bazel", """\
filegroup(
    name = "policy",
    srcs = {},
    visibility = ["//visibility:public"],
)
""".format(repr(sorted(files))))

policy_repository = repository_rule(
    implementation = _policy_repository_impl,
    doc = "//:policy: mfbazel.toml of the workspace and the files that it names; nothing where there is none.",
    attrs = {
        "files": attr.string_dict(doc = "Content by path, relative to the workspace's root."),
    },
)

def read_policy(module_ctx, root):
    """Reads mfbazel.toml.

    Returns a struct: `files`, the content of mfbazel.toml and of the files that it names, by path; `indexes`, the URLs of its indexes, by name.

    Args:
        module_ctx: The module context.
        root: Path of the workspace's root.
    """
    policy = root.get_child("mfbazel.toml")
    module_ctx.watch(policy)
    if not policy.exists:
        return struct(files = {}, indexes = {})
    interpreter = module_ctx.getenv("MFBAZEL_PYTHON") or module_ctx.which("python3")
    if not interpreter:
        fail("no python3 on PATH to read {} with: install Python 3 with pip, or name one in MFBAZEL_PYTHON".format(policy))
    script = module_ctx.path(Label("//mfbazel/lock:policy_names.py"))
    result = module_ctx.execute([interpreter, script, policy], environment = {"PYTHONDONTWRITEBYTECODE": "1"})
    if result.return_code != 0:
        fail("cannot read {}:\n{}".format(policy, result.stderr.strip()))
    files = {"mfbazel.toml": module_ctx.read(policy, watch = "yes")}
    names = json.decode(result.stdout)
    for name in names["files"]:
        path = root.get_child(*name.split("/"))

        # What is missing or out of the workspace is an error of the command line, which says where it is named.
        if not name.startswith("/") and ".." not in name.split("/"):
            module_ctx.watch(path)
            if path.exists and not path.is_dir:
                files[name] = module_ctx.read(path, watch = "yes")
    return struct(files = files, indexes = names["indexes"])
