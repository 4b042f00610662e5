"""Analysis tests: what the rules declare, and what they refuse."""

load("@bazel_skylib//lib:unittest.bzl", "analysistest", "asserts")
load("@mfbazel_locks//:index.bzl", "LOCKS")
load("//rules/private:flow_command.bzl", "flow_command")  # buildifier: disable=bzl-visibility
load("//rules/private:flow_step_images.bzl", "flow_step_images")  # buildifier: disable=bzl-visibility
load("//rules/private:image_options.bzl", "image_options")  # buildifier: disable=bzl-visibility
load("//rules/private:layers.bzl", "image_layers", "layers", "venv_layer")  # buildifier: disable=bzl-visibility
load("//rules/private:missing_lock.bzl", "missing_lock")  # buildifier: disable=bzl-visibility
load("//rules/private:native_image.bzl", "native_image")  # buildifier: disable=bzl-visibility
load("//rules/private/providers:layer_info.bzl", "LayersInfo")  # buildifier: disable=bzl-visibility

def _failure_test(message):
    def _impl(ctx):
        env = analysistest.begin(ctx)
        asserts.expect_failure(env, message)
        return analysistest.end(env)

    return analysistest.make(_impl, expect_failure = True)

missing_lock_test = _failure_test("needs the lock of its flow, which does not exist yet. Make it with: bazel run //some:flow.lock")
image_without_platform_test = _failure_test("either base or both os and architecture must be given")
image_with_base_and_os_test = _failure_test("os, architecture and variant come from the base")

def _order_impl(ctx):
    env = analysistest.begin(ctx)
    target = analysistest.target_under_test(env)
    names = [layer.blob.basename for layer in target[LayersInfo].layers]
    asserts.equals(env, ["_second.tar.zst", "_first.tar.zst"], names)
    asserts.equals(env, names, [file.basename for file in target.files.to_list()])
    return analysistest.end(env)

layers_keep_their_order_test = analysistest.make(_order_impl)

def _gzip_impl(ctx):
    env = analysistest.begin(ctx)
    action = [action for action in analysistest.target_actions(env) if action.mnemonic == "VenvLayer"][0]
    asserts.true(env, "gzip" in action.argv, "the layer tool is not asked for gzip: {}".format(action.argv))
    asserts.equals(
        env,
        ["_first.descriptor.json", "_first.files.tsv", "_first.tar.gz"],
        sorted([file.basename for file in action.outputs.to_list()]),
    )
    return analysistest.end(env)

compression_follows_the_build_setting_test = analysistest.make(
    _gzip_impl,
    config_settings = {str(Label("//rules:compression")): "gzip"},
)

def _descriptors_only_impl(ctx):
    env = analysistest.begin(ctx)
    mnemonics = [action.mnemonic for action in analysistest.target_actions(env)]
    asserts.true(env, "OCIImage" in mnemonics)
    asserts.false(env, "LayerDescriptor" in mnemonics, "a layer that has a descriptor is read again")
    return analysistest.end(env)

layers_with_descriptors_are_not_read_again_test = analysistest.make(_descriptors_only_impl)

def _push_impl(ctx):
    env = analysistest.begin(ctx)
    written = [action for action in analysistest.target_actions(env) if action.mnemonic == "FileWrite"][0].content.splitlines()
    asserts.equals(env, "flow", written[0])
    asserts.equals(env, "//examples/churn:churn_flow", written[written.index("--label") + 1])
    steps = [written[i + 1].split("=")[0] for i in range(len(written)) if written[i] == "--image"]
    asserts.equals(env, ["start", "prepare", "train", "evaluate", "report", "end"], steps)
    return analysistest.end(env)

push_names_every_step_in_topological_order_test = analysistest.make(_push_impl)

def _clashes_impl(ctx):
    env = analysistest.begin(ctx)
    target = analysistest.target_under_test(env)
    asserts.equals(env, ["_image_layers.checked"], [file.basename for file in target[OutputGroupInfo]._validation.to_list()])
    action = [action for action in analysistest.target_actions(env) if action.mnemonic == "LayerClashes"][0]
    lists = [file.basename for file in action.inputs.to_list() if file.basename.endswith(".files.tsv")]
    asserts.equals(env, ["_first.files.tsv", "_second.files.tsv"], sorted(lists))
    return analysistest.end(env)

layers_of_an_image_are_compared_by_every_build_test = analysistest.make(_clashes_impl)

def _system_packages_test(expected):
    def _impl(ctx):
        env = analysistest.begin(ctx)
        action = [action for action in analysistest.target_actions(env) if action.mnemonic == "VenvLayer"][0]
        asserts.equals(env, expected, "--system-packages" in action.argv)
        return analysistest.end(env)

    return analysistest.make(_impl)

disabled_step_sees_the_packages_of_its_base_test = _system_packages_test(True)
other_step_does_not_see_the_packages_of_its_base_test = _system_packages_test(False)

def _images_with_a_disabled_step(name, disabled):
    """Declares the images of the churn flow as if a step of it were disabled; returns the steps of each image."""
    package = "examples/churn/churn_flow"
    return flow_step_images(
        name = name,
        base = "@python_base",
        bases = {},
        code = [],
        images = {},
        lock = dict(LOCKS[package], disabled = [disabled]),
        options = image_options(),
        package = package,
        tags = ["manual"],
        visibility = ["//visibility:private"],
    ).images.values()

def rules_test_suite(name):
    """Declares the tests of this file, and the targets that they look at.

    Args:
        name: name of the test suite.
    """
    manual = {"tags": ["manual"]}
    missing_lock(name = "_missing_lock", command = "bazel run //some:flow.lock", **manual)
    flow_command(name = "_push", command = "flow", images = "//examples/churn:churn_flow.images", **manual)
    native_image(name = "_no_platform", **manual)
    venv_layer(name = "_first", interpreter = "/usr/bin/python3.14", python = "3.14", **manual)
    venv_layer(name = "_second", interpreter = "/usr/bin/python3.14", python = "3.14", **manual)
    layers(name = "_layers", layers = ["_second", "_first"], **manual)
    image_layers(name = "_image_layers", image = "//some:image", layers = ["_second", "_first"], **manual)
    native_image(name = "_image", architecture = "amd64", os = "linux", tars = ["_layers"], **manual)
    native_image(name = "_two_platforms", base = "_image", os = "linux", **manual)
    images = _images_with_a_disabled_step("_flow", "end")
    if ["end"] not in images or ["start", "evaluate"] not in images:
        fail("a disabled step does not have an image of its own: {}".format(images))
    tests = {
        "compression_follows_the_build_setting": (compression_follows_the_build_setting_test, "_first"),
        "disabled_step_sees_the_packages_of_its_base": (disabled_step_sees_the_packages_of_its_base_test, "__flow.python3.14.disabled.venv"),
        "image_with_base_and_os_is_refused": (image_with_base_and_os_test, "_two_platforms"),
        "image_without_platform_is_refused": (image_without_platform_test, "_no_platform"),
        "layers_keep_their_order": (layers_keep_their_order_test, "_layers"),
        "layers_of_an_image_are_compared_by_every_build": (layers_of_an_image_are_compared_by_every_build_test, "_image_layers"),
        "layers_with_descriptors_are_not_read_again": (layers_with_descriptors_are_not_read_again_test, "_image"),
        "missing_lock_names_the_command": (missing_lock_test, "_missing_lock"),
        "other_step_does_not_see_the_packages_of_its_base": (other_step_does_not_see_the_packages_of_its_base_test, "__flow.python3.14.venv"),
        "push_names_every_step_in_topological_order": (push_names_every_step_in_topological_order_test, "_push"),
    }
    for test, (rule, target) in tests.items():
        rule(name = test, size = "small", target_under_test = target)
    native.test_suite(name = name, tests = tests.keys())
