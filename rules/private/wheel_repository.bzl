"""One repository per wheel, named by the wheel's sha256 and shared by everything that uses it."""

load(":wheel_targets.bzl", "WHEEL_ATTRS", "locks_of", "wheel_targets")

def _wheel_repository_impl(repository_ctx):
    attr = repository_ctx.attr
    interpreter = repository_ctx.getenv("MFBAZEL_PYTHON") or repository_ctx.which("python3")
    if not interpreter:
        fail("no python3 on PATH to download {} with: install Python 3 with pip, or name one in MFBAZEL_PYTHON".format(attr.file))
    repository_ctx.report_progress("Downloading {}".format(attr.file))
    index = []
    for name, url in attr.index.items():
        index = ["--index-name", name, "--index-url", url]
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
        ] + index,
        timeout = 3600,
        environment = {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    if result.return_code != 0:
        fail("wheel {} of {}:\n{}".format(attr.file, locks_of(repository_ctx, attr.sha256), result.stderr.strip()))
    repository_ctx.file("BUILD.bazel", wheel_targets(attr, "wheel", attr._wheel_bzl, {
        "sha256": attr.sha256,
        "src": attr.file,
    }))

wheel_repository = repository_rule(
    implementation = _wheel_repository_impl,
    doc = "Downloads one wheel with the user's pip configuration and checks its hash.",
    attrs = dict(
        WHEEL_ATTRS,
        file = attr.string(mandatory = True, doc = "File name of the wheel."),
        index = attr.string_dict(doc = "Name and URL of the index of mfbazel.toml that has the wheel; without one, pip's configuration counts."),
        sha256 = attr.string(mandatory = True, doc = "Hash of the wheel."),
        _fetch = attr.label(default = "//mfbazel/wheel:fetch.py"),
    ),
)
