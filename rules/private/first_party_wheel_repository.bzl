"""One repository per wheel of the workspace; its targets are those of every wheel."""

load(":wheel_targets.bzl", "WHEEL_ATTRS", "wheel_targets")

def _first_party_wheel_repository_impl(repository_ctx):
    attr = repository_ctx.attr
    repository_ctx.file("BUILD.bazel", wheel_targets(attr, "first_party_wheel", attr._first_party_wheel_bzl, {
        "sha256": attr.sha256,
        "src": attr.wheel,
    }))

first_party_wheel_repository = repository_rule(
    implementation = _first_party_wheel_repository_impl,
    doc = "The targets of a wheel that is a file or target of the workspace.",
    attrs = dict(
        WHEEL_ATTRS,
        sha256 = attr.string(doc = "Hash of a checked-in file; empty for what a target makes."),
        wheel = attr.string(mandatory = True, doc = "Label of the wheel."),
        _first_party_wheel_bzl = attr.label(default = "//rules/private:first_party_wheel.bzl"),
    ),
)
