"""Analysis tests: what the build settings and a wheel's origin make of the action of a layer."""

load("@bazel_skylib//lib:unittest.bzl", "analysistest", "asserts", "unittest")
load("@rules_python//python:defs.bzl", "py_runtime")
load("//rules/private:built_wheel.bzl", "built_wheel")  # buildifier: disable=bzl-visibility
load("//rules/private:layers.bzl", "wheel_layer")  # buildifier: disable=bzl-visibility
load("//rules/private:locks_extension.bzl", "direct_url")  # buildifier: disable=bzl-visibility

_BYTECODE = str(Label("//rules:bytecode"))
_COMPILER = str(Label("//rules:bytecode_python"))
_COMPRESSION = str(Label("//rules:compression"))
_LEVEL = str(Label("//rules:compression_level"))
_ORIGIN = '{"url": "https://git.example.com/x", "vcs_info": {"commit_id": "c0ffee", "vcs": "git"}}'

def _failure_test(message, settings):
    def _impl(ctx):
        env = analysistest.begin(ctx)
        asserts.expect_failure(env, message)
        return analysistest.end(env)

    return analysistest.make(_impl, expect_failure = True, config_settings = settings)

level_beyond_the_range_test = _failure_test(
    "--@mfbazel//rules:compression_level=20 does not fit --@mfbazel//rules:compression=zstd: choose a whole number from 1 to 19, or leave it out",
    {_LEVEL: "20"},
)
level_that_is_no_number_test = _failure_test(
    "--@mfbazel//rules:compression_level=best does not fit --@mfbazel//rules:compression=gzip: choose a whole number from 1 to 9, or leave it out",
    {_COMPRESSION: "gzip", _LEVEL: "best"},
)
level_of_no_compression_test = _failure_test(
    "--@mfbazel//rules:compression_level=1 does not fit --@mfbazel//rules:compression=none: leave it out",
    {_COMPRESSION: "none", _LEVEL: "1"},
)
compiler_that_is_no_python_test = _failure_test(
    "is no py_runtime target",
    {_BYTECODE: True, _COMPILER: str(Label("//tests/layer:_source"))},
)

def _arguments_test(present, absent, settings = {}):
    """Makes a test that a WheelLayer action has arguments, one after another, and lacks others."""

    def _impl(ctx):
        env = analysistest.begin(ctx)
        action = [action for action in analysistest.target_actions(env) if action.mnemonic == "WheelLayer"][0]
        given = "\n" + "\n".join(action.argv) + "\n"
        for arguments in present:
            asserts.true(env, "\n" + "\n".join(arguments) + "\n" in given, "{} is missing: {}".format(arguments, given))
        for argument in absent:
            asserts.false(env, "\n" + argument + "\n" in given, "{} is there: {}".format(argument, given))
        return analysistest.end(env)

    return analysistest.make(_impl, config_settings = settings)

defaults_test = _arguments_test(
    [["--compression", "zstd"], ["--direct-url", "x-1.0-py3-none-any.whl=" + _ORIGIN]],
    ["--level", "--bytecode", "--compiler"],
)
level_test = _arguments_test([["--compression", "zstd"], ["--level", "9"]], [], {_LEVEL: "9"})
bytecode_test = _arguments_test([["--bytecode"]], ["--compiler"], {_BYTECODE: True})
bytecode_of_a_runtime_test = _arguments_test(
    [["--bytecode"], ["--compiler", "/usr/bin/python3.12"]],
    [],
    {_BYTECODE: True, _COMPILER: str(Label("//tests/layer:_runtime"))},
)

def _origin_impl(ctx):
    env = unittest.begin(ctx)
    source = {"commit": "c0ffee", "kind": "git", "revision": "v1", "subdirectory": "python", "url": "https://git.example.com/x"}
    asserts.equals(
        env,
        {"subdirectory": "python", "url": "https://git.example.com/x", "vcs_info": {"commit_id": "c0ffee", "requested_revision": "v1", "vcs": "git"}},
        json.decode(direct_url(source)),
    )
    plain = dict(source, revision = "", subdirectory = "")
    asserts.equals(env, {"url": "https://git.example.com/x", "vcs_info": {"commit_id": "c0ffee", "vcs": "git"}}, json.decode(direct_url(plain)))
    asserts.equals(env, "", direct_url(dict(source, url = "file:///home/me/x")))
    asserts.equals(env, "", direct_url({"file": "x-1.0.tar.gz", "kind": "sdist", "sha256": "00"}))
    return unittest.end(env)

origin_test = unittest.make(_origin_impl)

def layer_rules_test_suite(name):
    """Declares the tests of this file, and the targets that they look at.

    Args:
        name: name of the test suite.
    """
    manual = {"tags": ["manual"]}
    native.filegroup(name = "_source", srcs = ["popular_wheels.json"], **manual)
    py_runtime(name = "_runtime", interpreter_path = "/usr/bin/python3.12", python_version = "PY3", **manual)
    built_wheel(
        name = "_wheel",
        direct_url = _ORIGIN,
        distribution = "x",
        file = "x-1.0-py3-none-any.whl",
        sha256 = "0" * 64,
        source = "_source",
        version = "1.0",
        **manual
    )
    wheel_layer(name = "_layer", layer_name = "x", python = "3.12", wheels = ["_wheel"], **manual)
    tests = {
        "bytecode_is_compiled_by_the_given_runtime": bytecode_of_a_runtime_test,
        "bytecode_is_compiled_by_the_tools_python": bytecode_test,
        "bytecode_wants_a_python": compiler_that_is_no_python_test,
        "layer_has_origin_but_no_level_and_no_bytecode_by_default": defaults_test,
        "level_beyond_the_range_is_refused": level_beyond_the_range_test,
        "level_follows_the_build_setting": level_test,
        "level_of_no_compression_is_refused": level_of_no_compression_test,
        "level_that_is_no_number_is_refused": level_that_is_no_number_test,
    }
    for test, rule in tests.items():
        rule(name = test, size = "small", target_under_test = "_layer")
    origin_test(name = "origin_is_told_of_commits_only", size = "small")
    native.test_suite(name = name, tests = tests.keys() + ["origin_is_told_of_commits_only"])
