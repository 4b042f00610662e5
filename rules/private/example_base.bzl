"""The base image of the examples: pulled by digest, or made from Debian packages where the toolbox brings them."""

_FROM_PACKAGES = """\
load("@rules_oci//oci:defs.bzl", "oci_image")
load("{debian_base_bzl}", "debian_layer")

debian_layer(
    name = "layer",
    debs = glob(["debs/*.deb"]),
    python = "{python}",
)

oci_image(
    name = "{name}",
    architecture = "amd64",
    env = {{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}},
    os = "linux",
    tars = [":layer"],
    visibility = ["//visibility:public"],
)
"""

_PULLED = """\
alias(
    name = "{name}",
    actual = "{image}",
    visibility = ["//visibility:public"],
)
"""

def _example_base_impl(repository_ctx):
    name = repository_ctx.attr.repository_name
    packages = repository_ctx.getenv("MFBAZEL_BASE_PACKAGES")
    if not packages:
        repository_ctx.file("BUILD.bazel", _PULLED.format(name = name, image = repository_ctx.attr.image))
        return
    debs = [entry for entry in repository_ctx.path(packages).readdir() if entry.basename.endswith(".deb")]
    if not debs:
        fail("MFBAZEL_BASE_PACKAGES names {}, which holds no .deb file".format(packages))
    for deb in debs:
        repository_ctx.symlink(deb, "debs/" + deb.basename)
    repository_ctx.file("BUILD.bazel", _FROM_PACKAGES.format(
        debian_base_bzl = repository_ctx.attr._debian_base_bzl,
        name = name,
        python = repository_ctx.attr.python,
    ))

example_base = repository_rule(
    implementation = _example_base_impl,
    doc = "@NAME, an OCI image with a Debian userland and Python.",
    attrs = {
        "image": attr.label(mandatory = True, doc = "Image where MFBAZEL_BASE_PACKAGES, a directory of .deb files, is not set."),
        "python": attr.string(mandatory = True, doc = "Version (X.Y) of the Python among the packages."),
        "repository_name": attr.string(mandatory = True, doc = "Name of the target, which is that of the repository."),
        "_debian_base_bzl": attr.label(default = "//rules/private:debian_base.bzl"),
    },
    local = True,
)
