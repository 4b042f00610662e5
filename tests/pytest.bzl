"""pytest as a Bazel test."""

load("@rules_python//python:defs.bzl", "py_test")

def pytest_test(name, srcs = None, deps = [], data = [], environment = "test", **kwargs):
    """One pytest file (or several) as a test target.

    Args:
        name: name of the test; also of its file, NAME.py, when srcs is not given.
        srcs: test files.
        deps: what the tests import.
        data: what the tests read.
        environment: environment of tools/python/python.lock that has the packages which the tests import.
        **kwargs: passed on to py_test.
    """
    srcs = srcs or [name + ".py"]
    if kwargs.get("size") == "small" and not kwargs.get("timeout"):
        kwargs["timeout"] = "moderate"  # a minute is not enough for the same work on a machine that is busy
    py_test(
        name = name,
        srcs = srcs + ["//tools/python:pytest_main.py"],
        args = ["$(rootpath {})".format(src) for src in srcs],
        data = data + ["//:pyproject.toml"],
        legacy_create_init = 0,
        main = "//tools/python:pytest_main.py",
        deps = deps + ["@mfbazel_locks//_mfbazel:" + environment],
        **kwargs
    )
