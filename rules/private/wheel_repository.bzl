"""One repository per wheel, named by the wheel's sha256 and shared by everything that uses it."""

_BUILD = """\
load("@rules_python//python:defs.bzl", "py_library")
load("{wheel_bzl}", "wheel", "wheel_site")
load("{layers_bzl}", "wheel_layer")

package(default_visibility = ["//visibility:public"])

wheel(
    name = "wheel",
    src = "{file}",
    distribution = "{distribution}",
    sha256 = "{sha256}",
    version = "{version}",
)

wheel_site(
    name = "site",
    wheel = ":wheel",
)

py_library(
    name = "lib",
    data = [":site"],
    imports = ["site"],
)

[
    wheel_layer(
        name = "layer_" + python,
        layer_name = "{distribution}-{version}",
        python = python,
        wheels = [":wheel"],
    )
    for python in {pythons}
]
"""

def _wheel_repository_impl(repository_ctx):
    attr = repository_ctx.attr
    interpreter = repository_ctx.getenv("MFBAZEL_PYTHON") or repository_ctx.which("python3")
    if not interpreter:
        fail("no python3 on PATH to download {} with: install Python 3 with pip, or name one in MFBAZEL_PYTHON".format(attr.file))
    repository_ctx.report_progress("Downloading {}".format(attr.file))
    result = repository_ctx.execute(
        [
            interpreter,
            repository_ctx.path(attr._fetch),
            "--name",
            attr.distribution,
            "--version",
            attr.version,
            "--file",
            attr.file,
            "--sha256",
            attr.sha256,
            "--output",
            attr.file,
        ],
        timeout = 3600,
        environment = {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    if result.return_code != 0:
        fail("wheel {} of {}:\n{}".format(attr.file, attr.locks, result.stderr.strip()))
    repository_ctx.file("BUILD.bazel", _BUILD.format(
        distribution = attr.distribution,
        file = attr.file,
        layers_bzl = attr._layers_bzl,
        pythons = attr.pythons,
        sha256 = attr.sha256,
        version = attr.version,
        wheel_bzl = attr._wheel_bzl,
    ))

wheel_repository = repository_rule(
    implementation = _wheel_repository_impl,
    doc = "Downloads one wheel with the user's pip configuration and checks its hash.",
    attrs = {
        "distribution": attr.string(mandatory = True, doc = "Normalized name of the distribution."),
        "file": attr.string(mandatory = True, doc = "File name of the wheel."),
        "locks": attr.string(doc = "The locks that name the wheel, for messages."),
        "pythons": attr.string_list(doc = "Versions (X.Y) of the Pythons that it is installed for."),
        "sha256": attr.string(mandatory = True, doc = "Hash of the wheel."),
        "version": attr.string(mandatory = True, doc = "Version of the distribution."),
        "_fetch": attr.label(default = "//mfbazel/wheel:fetch.py"),
        "_layers_bzl": attr.label(default = "//rules/private:layers.bzl"),
        "_wheel_bzl": attr.label(default = "//rules/private:wheel.bzl"),
    },
)
