"""A Python toolchain over an interpreter of this machine, for workspaces that download none."""

_BUILD = """\
load("@rules_python//python:defs.bzl", "py_runtime", "py_runtime_pair")
{exec_tools_load}
py_runtime(
    name = "runtime",
    interpreter_path = "{interpreter}",
    python_version = "PY3",
    visibility = ["//visibility:public"],
)

py_runtime_pair(
    name = "runtime_pair",
    py3_runtime = ":runtime",
)

toolchain(
    name = "toolchain",
    toolchain = ":runtime_pair",
    toolchain_type = "@bazel_tools//tools/python:toolchain_type",
)
"""

def _local_python_impl(repository_ctx):
    version = repository_ctx.attr.python_version
    asked = repository_ctx.getenv("MFBAZEL_PYTHON")
    interpreter = asked or repository_ctx.which("python" + version) or repository_ctx.which("python3")
    if not interpreter:
        fail("no Python {} on PATH: install it, or name an interpreter in MFBAZEL_PYTHON".format(version))
    result = repository_ctx.execute([interpreter, "-c", "import sys; print('%d.%d' % sys.version_info[:2]); print(sys.executable)"])
    lines = result.stdout.splitlines()
    if result.return_code != 0 or not lines or lines[0] != version:
        fail("{} is Python {}, and the lock of mfbazel's tools (tools/python/python.lock) is for {}: install python{}, or name one in MFBAZEL_PYTHON".format(
            interpreter,
            lines[0] if lines else "that does not start: " + result.stderr,
            version,
            version,
        ))
    repository_ctx.file("BUILD.bazel", _BUILD.format(exec_tools_load = "", interpreter = lines[1]))

local_python = repository_rule(
    implementation = _local_python_impl,
    doc = "Declares @NAME//:toolchain. The interpreter must have the version asked for.",
    attrs = {"python_version": attr.string(mandatory = True, doc = "X.Y")},
    configure = True,
    local = True,
)
