"""Checks that a base image has the Python that images on it link to."""

load("//rules/private/providers:base_image_info.bzl", "BaseImageInfo")
load(":worker_action.bzl", "run_in_worker")

def _interpreter_check_impl(ctx):
    found = ctx.actions.declare_file(ctx.label.name + ".found")
    listing = ctx.attr.base[BaseImageInfo].files
    arguments = ctx.actions.args()
    arguments.add("interpreter")
    arguments.add("--files", listing)
    arguments.add("--interpreter", ctx.attr.interpreter)
    arguments.add("--image", ctx.attr.image)
    arguments.add("--output", found)
    run_in_worker(
        ctx,
        executable = ctx.executable._image,
        arguments = arguments,
        inputs = [listing],
        outputs = [found],
        mnemonic = "InterpreterCheck",
        progress_message = "Looking for {} in the base of {}".format(ctx.attr.interpreter, ctx.attr.image),
    )
    return [DefaultInfo(files = depset([found]))]

interpreter_check = rule(
    implementation = _interpreter_check_impl,
    doc = "Fails, listing the Pythons of the base, when it lacks the interpreter.",
    attrs = {
        "base": attr.label(mandatory = True, providers = [BaseImageInfo], doc = "The base image, a platform_base."),
        "image": attr.string(mandatory = True, doc = "What is built on it, for messages."),
        "interpreter": attr.string(mandatory = True, doc = "Absolute path of the interpreter in the base."),
        "_image": attr.label(default = "//mfbazel/image", executable = True, cfg = "exec"),
    },
)
