"""First-party modules as files of an image, for rules_pkg."""

load("@rules_pkg//pkg:providers.bzl", "PackageFilesInfo")
load(":import_roots.bzl", "import_roots", "imported_as")

def _first_party_files_impl(ctx):
    runfiles = ctx.runfiles().merge_all([dep[DefaultInfo].default_runfiles for dep in ctx.attr.deps])
    files = depset(transitive = [runfiles.files] + [dep[DefaultInfo].files for dep in ctx.attr.deps])
    roots = import_roots(ctx, ctx.attr.deps)
    found = {
        "{}/{}".format(ctx.attr.prefix, path): file
        for file in files.to_list()
        if file.owner.workspace_name == "" and not file.is_directory
        for path in imported_as(file, roots)
    }
    return [
        DefaultInfo(files = depset(found.values())),
        PackageFilesInfo(attributes = {"mode": "0644"}, dest_src_map = found),
    ]

first_party_files = rule(
    implementation = _first_party_files_impl,
    doc = "The modules and data files of py_library targets of this workspace, below each of their import roots.",
    attrs = {
        "deps": attr.label_list(mandatory = True, doc = "First-party libraries."),
        "prefix": attr.string(mandatory = True, doc = "Directory in the image."),
    },
    provides = [PackageFilesInfo],
)
