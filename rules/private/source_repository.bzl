"""One repository per source of a wheel: an sdist, or a commit of a git repository. Nothing of it is run here."""

load(":wheel_targets.bzl", "locks_of")

def _source_repository_impl(repository_ctx):
    attr = repository_ctx.attr
    interpreter = repository_ctx.getenv("MFBAZEL_PYTHON") or repository_ctx.which("python3")
    if not interpreter:
        fail("no python3 on PATH to fetch the source of {} with: install Python 3 with pip, or name one in MFBAZEL_PYTHON".format(attr.distribution))
    repository_ctx.report_progress("Fetching the source of {} {}".format(attr.distribution, attr.version))
    arguments = [interpreter, repository_ctx.path(attr._fetch), attr.kind, "--output", attr.file]
    if attr.kind == "git":
        arguments += ["--url", attr.url, "--commit", attr.commit]
    else:
        arguments += ["--name", attr.distribution, "--version", attr.version, "--file", attr.file, "--sha256", attr.sha256]
        for name, url in attr.index.items():
            arguments += ["--index-name", name, "--index-url", url]

    # What the script imports: fetched again when it changes.
    for script in attr._scripts:
        repository_ctx.path(script)
    result = repository_ctx.execute(arguments, timeout = 3600, environment = {"PYTHONDONTWRITEBYTECODE": "1"})
    if result.return_code != 0:
        fail("source of {} {} of {}:\n{}".format(attr.distribution, attr.version, locks_of(repository_ctx, attr.wheel), result.stderr.strip()))
    repository_ctx.file("BUILD.bazel", """\
filegroup(
    name = "source",
    srcs = [{}],
    visibility = ["//visibility:public"],
)
""".format(repr(attr.file)))

source_repository = repository_rule(
    implementation = _source_repository_impl,
    doc = "Fetches a source archive: an sdist with the user's pip configuration, checked by its hash, or a commit with git.",
    attrs = {
        "commit": attr.string(doc = "Commit of a git repository."),
        "distribution": attr.string(mandatory = True, doc = "Normalized name of the distribution."),
        "file": attr.string(mandatory = True, doc = "File name of the archive."),
        "index": attr.string_dict(doc = "Name and URL of the index of mfbazel.toml that has an sdist; without one, pip's configuration counts."),
        "kind": attr.string(mandatory = True, values = ["git", "sdist"]),
        "sha256": attr.string(doc = "Hash of an sdist."),
        "url": attr.string(doc = "URL of a git repository."),
        "version": attr.string(mandatory = True, doc = "Version of the distribution."),
        "wheel": attr.string(doc = "Hash of a wheel that is built of it, for messages."),
        "_fetch": attr.label(default = "//mfbazel/build:fetch.py"),
        "_scripts": attr.label_list(default = [
            "//mfbazel:errors.py",
            "//mfbazel/build:errors.py",
            "//mfbazel/build:git.py",
            "//mfbazel/build:pip_sdist.py",
            "//mfbazel/wheel:fetch.py",
            "//mfbazel/wheel:pip_environment.py",
        ]),
    },
)
