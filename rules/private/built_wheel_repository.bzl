"""One repository per wheel that is built from a source; its targets are those of every wheel."""

load(":wheel_targets.bzl", "WHEEL_ATTRS", "wheel_targets")

def _built_wheel_repository_impl(repository_ctx):
    attr = repository_ctx.attr
    repository_ctx.file("BUILD.bazel", wheel_targets(attr, "built_wheel", attr._built_wheel_bzl, {
        "direct_url": attr.direct_url,
        "file": attr.file,
        "requirements": attr.requirements,
        "sha256": attr.sha256,
        "source": attr.source,
        "subdirectory": attr.subdirectory,
    }))

built_wheel_repository = repository_rule(
    implementation = _built_wheel_repository_impl,
    doc = "The targets of a wheel that is built.",
    attrs = dict(
        WHEEL_ATTRS,
        direct_url = attr.string(doc = "See built_wheel."),
        file = attr.string(mandatory = True, doc = "File name of the wheel."),
        requirements = attr.string_list(doc = "Labels of the wheels of its build requirements."),
        sha256 = attr.string(mandatory = True, doc = "Hash of the wheel."),
        source = attr.string(mandatory = True, doc = "Label of the source archive."),
        subdirectory = attr.string(doc = "Where in the source the project lies."),
        _built_wheel_bzl = attr.label(default = "//rules/private:built_wheel.bzl"),
    ),
)
