"""The targets that every wheel's repository has, wherever the wheel comes from.

Nothing here depends on the locks that name the wheel: adding a flow fetches no wheel again.
"""

_BUILD = """\
load("@rules_python//python:defs.bzl", "py_library")
load("{wheel_bzl}", "wheel_site")
load("{rule_bzl}", "{rule}")
load("{layers_bzl}", "wheel_layer")

package(default_visibility = ["//visibility:public"])

{rule}(
    name = "wheel",
    distribution = {distribution},
    version = {version},
{attributes})

wheel_site(
    name = "site",
    wheel = ":wheel",
)

py_library(
    name = "lib",
    data = [":site"],
    imports = ["site"],
)

wheel_site(
    name = "compiled_site",
    bytecode = True,
    wheel = ":wheel",
)

py_library(
    name = "compiled_lib",
    data = [":compiled_site"],
    imports = ["compiled_site"],
)

[
    wheel_layer(
        name = "layer_" + python,
        layer_name = {layer_name},
        python = python,
        wheels = [":wheel"],
    )
    for python in {pythons}
]
"""

# Of a layer for another Python nothing is made until something wants it.
_PYTHONS = ["3.{}".format(minor) for minor in range(6, 26)]

WHEEL_ATTRS = {
    "distribution": attr.string(mandatory = True, doc = "Normalized name of the distribution."),
    "version": attr.string(mandatory = True, doc = "Version of the distribution."),
    "_layers_bzl": attr.label(default = "//rules/private:layers.bzl"),
    "_wheel_bzl": attr.label(default = "//rules/private:wheel.bzl"),
}

def wheel_repository_name(key):
    """Names the repository of a wheel, by its key in a lock: a sha256, or the label of the target that makes it."""
    if not key.startswith("//"):
        return "whl_" + key
    readable = "".join([char if char.isalnum() else "_" for char in key.elems()])
    return "whl_{}_{}".format(readable.strip("_"), hash(key) % (1 << 31))

def locks_of(repository_ctx, sha256):
    """Names the locks that have a wheel, for the message of a failure: whoever asks depends on all locks."""
    return ", ".join(json.decode(repository_ctx.read(Label("@mfbazel_locks//:wheels.json"))).get(sha256, ["no lock"]))

def wheel_targets(attr, rule, rule_bzl, attributes):
    """Returns the BUILD file of a wheel's repository: `:wheel`, `:site`, `:lib`, both with byte code (`:compiled_…`), and `:layer_X.Y`.

    Args:
        attr: attributes of a repository rule that has WHEEL_ATTRS.
        rule: name of the rule of `:wheel`, which gives WheelInfo.
        rule_bzl: label of the file that defines it.
        attributes: attributes of `:wheel` besides distribution and version.
    """
    return _BUILD.format(
        attributes = "".join(["    {} = {},\n".format(name, repr(value)) for name, value in sorted(attributes.items())]),
        distribution = repr(attr.distribution),
        layer_name = repr("{}-{}".format(attr.distribution, attr.version)),
        layers_bzl = attr._layers_bzl,
        pythons = _PYTHONS,
        rule = rule,
        rule_bzl = rule_bzl,
        version = repr(attr.version),
        wheel_bzl = attr._wheel_bzl,
    )
