"""First-party Python: the directories from which it is imported, and its files below them."""

load("@rules_python//python:py_info.bzl", "PyInfo")

def import_roots(ctx, deps):
    """Returns the import roots of deps within the workspace, relative to its root; the root itself (`.`) is the last.

    Args:
        ctx: context of a rule in the workspace's own repository.
        deps: targets; those that are no Python libraries have none.
    """
    prefix = ctx.workspace_name + "/"
    found = {}
    for dep in deps:
        if PyInfo in dep:
            for path in dep[PyInfo].imports.to_list():
                if path.startswith(prefix) and path != prefix:
                    found[path.removeprefix(prefix)] = None
    return found.keys() + ["."]

def first_party(ctx, deps):
    """Returns what deps bring of the workspace's own files: modules, data files, and directories that actions made.

    Args:
        ctx: context of a rule in the workspace's own repository.
        deps: targets.

    Returns:
        struct: `files`, dict of path below an import root to file, where, as on sys.path, the first root that has the path counts; `roots`, what import_roots
        returned; `runfiles`, everything that deps need when they run.
    """
    runfiles = ctx.runfiles().merge_all([dep[DefaultInfo].default_runfiles for dep in deps])
    everything = depset(transitive = [runfiles.files] + [dep[DefaultInfo].files for dep in deps]).to_list()
    own = [file for file in everything if file.owner.workspace_name == ""]
    roots = import_roots(ctx, deps)
    found = {}
    for root in roots:
        prefix = "" if root == "." else root + "/"
        for file in own:
            if file.short_path.startswith(prefix):
                found.setdefault(file.short_path.removeprefix(prefix), file)
    return struct(files = found, roots = roots, runfiles = runfiles)
