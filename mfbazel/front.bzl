"""A package of mfbazel: its library, and its command-line front."""

load("@rules_python//python:defs.bzl", "py_binary", "py_library")

def front(name, deps, data = [], front_deps = []):
    """Declares `lib`, the package's modules, and NAME, which runs its `__main__.py`.

    Args:
        name: name of the front, which is that of the package.
        deps: what the modules import.
        data: what they read.
        front_deps: what the front needs besides.
    """

    # metaflow_flow makes executables of its own from it.
    native.exports_files(["__main__.py"], visibility = ["//visibility:public"])
    py_library(
        name = "lib",
        srcs = native.glob(["**/*.py"]),
        data = data,
        visibility = ["//visibility:public"],
        deps = deps,
    )
    py_binary(
        name = name,
        srcs = ["__main__.py"],
        legacy_create_init = 0,
        main = "__main__.py",
        visibility = ["//visibility:public"],
        deps = [":lib"] + front_deps,
    )
