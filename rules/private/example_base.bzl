"""The base image of the examples: pulled by digest, or made from Debian packages where the toolbox brings them."""

_HEADER = """\
load("@rules_oci//oci:defs.bzl", "oci_image")
load("{debian_base_bzl}", "debian_layer")

alias(
    name = "{name}",
    actual = select(
        {{
{choices}
        }},
        no_match_error = "@{name} is an image for {platforms}, and for no other platform",
    ),
    visibility = ["//visibility:public"],
)
"""

_FROM_PACKAGES = """
debian_layer(
    name = "layer_{architecture}",
    debs = glob(["debs/{architecture}/*.deb"]),
    python = "{python}",
)

oci_image(
    name = "{name}_linux_{architecture}",
    architecture = "{architecture}",
    env = {{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}},
    os = "linux",
    tars = [":layer_{architecture}"],
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

# Constraints of @platforms, by architecture.
_CPUS = {"amd64": "x86_64", "arm64": "aarch64"}

def _example_base_impl(repository_ctx):
    name = repository_ctx.attr.repository_name
    packages = repository_ctx.getenv("MFBAZEL_BASE_PACKAGES")
    if not packages:
        repository_ctx.file("BUILD.bazel", _PULLED.format(name = name, image = repository_ctx.attr.image))
        return
    parts = []
    choices = []
    for directory in sorted(repository_ctx.path(packages).readdir(), key = str):
        architecture = directory.basename
        debs = [entry for entry in directory.readdir() if entry.basename.endswith(".deb")]
        if not debs:
            fail("MFBAZEL_BASE_PACKAGES names {}, where {} holds no .deb file".format(packages, architecture))
        for deb in debs:
            repository_ctx.symlink(deb, "debs/{}/{}".format(architecture, deb.basename))
        constraint = Label("@platforms//cpu:" + _CPUS[architecture])
        choices.append("            \"{}\": \":{}_linux_{}\",".format(constraint, name, architecture))
        parts.append(_FROM_PACKAGES.format(
            architecture = architecture,
            name = name,
            python = repository_ctx.attr.python,
        ))
    header = _HEADER.format(
        choices = "\n".join(choices),
        debian_base_bzl = repository_ctx.attr._debian_base_bzl,
        name = name,
        platforms = ", ".join(["linux/" + directory.basename for directory in repository_ctx.path(packages).readdir()]),
    )
    repository_ctx.file("BUILD.bazel", header + "".join(parts))

example_base = repository_rule(
    implementation = _example_base_impl,
    doc = "@NAME, an OCI image with a Debian userland and Python, for linux/amd64 and linux/arm64.",
    attrs = {
        "image": attr.label(mandatory = True, doc = "Image where MFBAZEL_BASE_PACKAGES is not set: a directory with a directory of .deb files per architecture."),
        "python": attr.string(mandatory = True, doc = "Version (X.Y) of the Python among the packages."),
        "repository_name": attr.string(mandatory = True, doc = "Name of the target, which is that of the repository."),
        "_debian_base_bzl": attr.label(default = "//rules/private:debian_base.bzl"),
    },
    local = True,
)
