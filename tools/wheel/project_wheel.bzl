"""The wheel of a Python project of this repository."""

def _project_wheel_impl(ctx):
    version = ctx.attr.version
    wheel = ctx.actions.declare_file("{}-{}-py3-none-any.whl".format(ctx.attr.distribution, version))
    libraries = depset(transitive = [target[DefaultInfo].default_runfiles.files for target in ctx.attr.deps])
    sources = [file for file in libraries.to_list() if file.extension == "py" and not file.short_path.startswith("../")]
    arguments = ctx.actions.args()
    arguments.add("--output", wheel)
    arguments.add_all(["{}={}".format(file.short_path, file.path) for file in sources + ctx.files.srcs])
    arguments.use_param_file("@%s")
    arguments.set_param_file_format("multiline")
    ctx.actions.run(
        executable = ctx.executable._make_wheel,
        arguments = [arguments],
        inputs = sources + ctx.files.srcs,
        outputs = [wheel],
        mnemonic = "ProjectWheel",
        progress_message = "Building wheel " + wheel.basename,
        execution_requirements = {"block-network": "1"},
    )
    return [DefaultInfo(files = depset([wheel]))]

_project_wheel = rule(
    implementation = _project_wheel_impl,
    doc = "Builds a wheel with the backend that pyproject.toml names; its bytes depend on its files alone.",
    attrs = {
        "deps": attr.label_list(doc = "Libraries; their modules and those of all that they depend on in this repository are in the wheel."),
        "distribution": attr.string(mandatory = True, doc = "Name of the distribution."),
        "srcs": attr.label_list(allow_files = True, doc = "pyproject.toml, and what it names besides modules."),
        "version": attr.string(mandatory = True, doc = "Version of the distribution."),
        "_make_wheel": attr.label(default = "//tools/wheel:make_wheel", executable = True, cfg = "exec"),
    },
)

def project_wheel(name, **kwargs):
    """A wheel, DISTRIBUTION-VERSION-py3-none-any.whl, with the version of MODULE.bazel.

    Args:
        name: name of the target.
        **kwargs: `distribution`, `srcs` and `deps`; see the rule.
    """
    _project_wheel(name = name, version = native.module_version(), **kwargs)
