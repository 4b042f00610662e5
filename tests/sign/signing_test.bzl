"""What a flow's attributes say of signatures, and what they must not say."""

load("@bazel_skylib//lib:unittest.bzl", "asserts", "unittest")
load("//rules/private:flow_signing.bzl", "signing_options", "signing_problem")  # buildifier: disable=bzl-visibility

def _problem(attach = [], sign = None, sign_options = {}):
    return signing_problem("//flows:my_flow", attach, sign, sign_options)

def _accepted_impl(ctx):
    env = unittest.begin(ctx)
    asserts.equals(env, "", _problem())
    asserts.equals(env, "", _problem(["spdx", "cyclonedx", "provenance"], "a-team's", {"key": "env://KEY", "any": "thing"}))
    asserts.equals(env, [], signing_options(None, {}))
    asserts.equals(env, ["--sign=cosign", "--sign-option=key=a=b"], signing_options("cosign", {"key": "a=b"}))
    return unittest.end(env)

def _refused_impl(ctx):
    env = unittest.begin(ctx)
    asserts.equals(
        env,
        "//flows:my_flow: attribute `attach`: \"sbom\" is none of \"spdx\", \"cyclonedx\", \"provenance\"",
        _problem(["sbom"]),
    )
    asserts.true(env, "`sign` names none" in _problem(sign_options = {"key": "x"}))
    for secret in ["-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----", "two\nlines"]:
        said = _problem(sign = "cosign", sign_options = {"key": secret})
        asserts.true(env, "name the key instead" in said)
        asserts.false(env, secret in said)
    return unittest.end(env)

accepted_test = unittest.make(_accepted_impl)
refused_test = unittest.make(_refused_impl)

def signing_test_suite(name):
    """The tests of this file.

    Args:
        name: name of the suite.
    """
    unittest.suite(name, accepted_test, refused_test)
