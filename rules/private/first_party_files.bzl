"""First-party modules as files of an image, for rules_pkg."""

load("@rules_pkg//pkg:providers.bzl", "PackageFilesInfo")
load(":import_roots.bzl", "first_party")

def _first_party_files_impl(ctx):
    found = {
        "{}/{}".format(ctx.attr.prefix, path): file
        for path, file in first_party(ctx, ctx.attr.deps).files.items()
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
