"""Tests that run Bazel in a workspace of their own, with its own server and repositories."""

load("//tests:pytest.bzl", "pytest_test")

def nested_bazel_test(name, data = [], deps = [], env_inherit = [], **kwargs):
    """A test in pytest that may run Bazel on the workspace's sources.

    Several files in one test share a workspace's place: starting a Bazel that has fetched and made nothing takes longer than most tests.

    Args:
        name: name of the test, and of its file without `.py` when srcs are not given.
        data: what it needs besides the sources.
        deps: what it imports besides the harness.
        env_inherit: variables that it takes from the environment, besides those that say where the toolbox and the wheels are.
        **kwargs: attributes of pytest_test.
    """
    pytest_test(
        name = name,
        size = "large",
        data = [
            "//:MODULE.bazel",
            "@lint_sources//:files",
        ] + data,
        # The toolbox and the wheels that this workspace has already.
        env_inherit = [
            "HOME",
            "MFBAZEL_TOOLBOX_DIR",
            "XDG_CACHE_HOME",
        ] + env_inherit,
        # Much of the time one core is idle: another test may run meanwhile.
        tags = [
            "no-remote-exec",
            "no-sandbox",
        ],
        deps = [":harness"] + deps,
        **kwargs
    )
