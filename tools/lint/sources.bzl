"""Every source file of the workspace in one repository, so that the lint tests see files of all packages and run again only when one changed."""

_SUFFIXES = (".py", ".bzl", ".bazel", ".sh", ".toml")
_NAMES = ["bazelw"]

def _lint_sources_impl(repository_ctx):
    root = repository_ctx.workspace_root
    level = [root]
    for _ in range(32):
        below = []
        for directory in level:
            for entry in directory.readdir():
                if entry.basename.startswith(".") or entry.basename.startswith("bazel-") or entry.basename == "__pycache__":
                    continue
                if entry.is_dir:
                    below.append(entry)
                    if directory == root:
                        repository_ctx.watch_tree(entry)
                elif entry.basename.endswith(_SUFFIXES) or entry.basename in _NAMES:
                    # The suffix keeps a BUILD.bazel from making a package here.
                    repository_ctx.symlink(entry, "files/{}.source".format(str(entry)[len(str(root)) + 1:]))
        level = below
        if not level:
            break
    repository_ctx.file("files/directory", "")
    repository_ctx.file("BUILD.bazel", """\
alias(
    name = "directory",
    actual = "files/directory",
    visibility = ["//visibility:public"],
)

filegroup(
    name = "files",
    srcs = glob(["files/**"]),
    visibility = ["//visibility:public"],
)
""")

lint_sources = repository_rule(
    implementation = _lint_sources_impl,
    doc = "@NAME//:files: the sources of the main repository, each under its path with `.source` appended.",
    local = True,
)
