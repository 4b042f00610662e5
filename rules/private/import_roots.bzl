"""The directories from which first-party Python is imported."""

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

def imported_as(file, roots):
    """Returns the paths of a file relative to each import root that holds it.

    Args:
        file: the file.
        roots: what import_roots returned.
    """
    return [
        file.short_path.removeprefix("" if root == "." else root + "/")
        for root in roots
        if root == "." or file.short_path.startswith(root + "/")
    ]
