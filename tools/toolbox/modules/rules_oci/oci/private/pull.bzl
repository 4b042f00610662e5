"""A pulled image as a repository."""

_IMAGE = """\
load("{layout_bzl}", "oci_layout")

oci_layout(
    name = "{name}",
    srcs = glob(["layout/**"]),
    visibility = ["//visibility:public"],
)
"""

_SELECT = """\
alias(
    name = "{name}",
    actual = select({{
        {choices}
    }}),
    visibility = ["//visibility:public"],
)
"""

_CPU = {"amd64": "x86_64", "arm64": "aarch64"}

def _oci_pull_impl(repository_ctx):
    attr = repository_ctx.attr
    if attr.platforms:
        choices = [
            '"{}": "@{}_{}//:{}_{}",'.format(
                Label("@platforms//cpu:" + _CPU.get(platform.split("/")[1], platform.split("/")[1])),
                attr.repository_name,
                platform.replace("/", "_"),
                attr.repository_name,
                platform.replace("/", "_"),
            )
            for platform in attr.platforms
        ]
        repository_ctx.file("BUILD.bazel", _SELECT.format(choices = "\n        ".join(choices), name = attr.repository_name))
        return
    crane = repository_ctx.which("crane")
    image = attr.image.removeprefix("https://").removeprefix("http://")
    reference = image + ("@" + attr.digest if attr.digest else ":" + (attr.tag or "latest"))
    command = [crane, "pull", "--format=oci", reference, "layout"]
    if attr.image.startswith("http://"):
        command.append("--insecure")
    if attr.platform:
        command += ["--platform", attr.platform]
    repository_ctx.report_progress("Pulling " + reference)
    result = repository_ctx.execute(command, timeout = 3600)
    if result.return_code != 0:
        fail("oci.pull {}: {} could not be pulled:\n{}".format(attr.repository_name, reference, result.stderr.strip()))
    repository_ctx.file("BUILD.bazel", _IMAGE.format(layout_bzl = Label(":layout.bzl"), name = attr.repository_name))

oci_pull = repository_rule(
    implementation = _oci_pull_impl,
    attrs = {
        "digest": attr.string(),
        "image": attr.string(mandatory = True),
        "platform": attr.string(),
        "platforms": attr.string_list(),
        "repository_name": attr.string(mandatory = True),
        "tag": attr.string(),
    },
)
