"""Checks that a base image has the Python that images on it link to."""

def _interpreter_check_impl(ctx):
    found = ctx.actions.declare_file(ctx.label.name + ".found")
    arguments = ctx.actions.args()
    arguments.add("interpreter")
    arguments.add_all("--base", [ctx.file.base], expand_directories = False)
    arguments.add("--interpreter", ctx.attr.interpreter)
    arguments.add("--image", ctx.attr.image)
    arguments.add("--output", found)
    ctx.actions.run(
        executable = ctx.executable._image,
        arguments = [arguments],
        # The blobs of a layout may be links to the layers, which are in the runfiles.
        inputs = depset([ctx.file.base], transitive = [ctx.attr.base[DefaultInfo].default_runfiles.files]),
        outputs = [found],
        mnemonic = "InterpreterCheck",
        progress_message = "Looking for {} in the base of {}".format(ctx.attr.interpreter, ctx.attr.image),
    )
    return [DefaultInfo(files = depset([found]))]

interpreter_check = rule(
    implementation = _interpreter_check_impl,
    doc = "Fails, listing the Pythons of the base, when it lacks the interpreter. Reads the layers of the base, once per base and Python.",
    attrs = {
        "base": attr.label(mandatory = True, allow_single_file = True, doc = "The base image, an OCI layout directory."),
        "image": attr.string(mandatory = True, doc = "What is built on it, for messages."),
        "interpreter": attr.string(mandatory = True, doc = "Absolute path of the interpreter in the base."),
        "_image": attr.label(default = "//mfbazel/image", executable = True, cfg = "exec"),
    },
)
