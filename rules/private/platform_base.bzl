"""A base image, for one of the platforms of images, and the list of its files."""

load("//rules/private/providers:base_image_info.bzl", "BaseImageInfo")
load(":for_platform.bzl", "PLATFORMS", "to_platform")
load(":policy.bzl", "POLICY_ATTRS", "add_policy")
load(":worker_action.bzl", "run_in_worker")

def _base_image_impl(target, ctx):
    layouts = target[DefaultInfo].files.to_list()
    if len(layouts) != 1:
        fail("{} is no image: it has {} outputs, and an OCI layout directory is one".format(target.label, len(layouts)))
    name = "_mfbazel/{}.{}".format(ctx.label.name, ctx.attr.platform.replace("/", "_"))
    layout = ctx.actions.declare_directory(name)
    arguments = ctx.actions.args()
    arguments.add("base")
    arguments.add_all("--base", layouts, expand_directories = False)
    arguments.add("--label", str(target.label).removeprefix("@@"))
    arguments.add("--platform", ctx.attr.platform)
    policy = add_policy(ctx, arguments)
    arguments.add_all("--output", [layout], expand_directories = False)
    blobs = target[DefaultInfo].default_runfiles.files
    run_in_worker(
        ctx,
        executable = ctx.executable._image,
        arguments = arguments,
        inputs = layouts + policy,
        outputs = [layout],
        mnemonic = "BaseImage",
        progress_message = "Taking the image for {} out of {}".format(ctx.attr.platform, target.label),
    )
    files = ctx.actions.declare_file(name + ".files.json")
    arguments = ctx.actions.args()
    arguments.add("files")
    arguments.add_all("--base", [layout], expand_directories = False)
    arguments.add("--output", files)
    run_in_worker(
        ctx,
        executable = ctx.executable._image,
        arguments = arguments,
        # The blobs of a layout may be links to the layers, which are in the runfiles.
        inputs = depset([layout] + layouts, transitive = [blobs]),
        outputs = [files],
        mnemonic = "BaseFiles",
        progress_message = "Listing the files of {}".format(target.label),
    )
    return [BaseImageInfo(files = files, layout = layout)]

# An aspect: of a base that a thousand flows share, the layers are read once.
_base_image = aspect(
    implementation = _base_image_impl,
    doc = "Takes the image for a platform out of a base image, and, where that is asked for, lists its files.",
    attrs = dict(POLICY_ATTRS, **{
        "platform": attr.string(values = PLATFORMS.keys()),
        "_image": attr.label(default = "//mfbazel/image", executable = True, cfg = "exec"),
    }),
    provides = [BaseImageInfo],
)

def _platform_base_impl(ctx):
    actual = ctx.attr.actual[0]
    base = actual[BaseImageInfo]
    return [
        DefaultInfo(
            files = depset([base.layout]),
            runfiles = ctx.runfiles([base.layout], transitive_files = actual[DefaultInfo].files).merge(actual[DefaultInfo].default_runfiles),
        ),
        base,
    ]

platform_base = rule(
    implementation = _platform_base_impl,
    doc = "A base image for a platform, whatever the build is for: the base is built for it, and the image for it is taken out of an index.",
    attrs = {
        "actual": attr.label(mandatory = True, aspects = [_base_image], cfg = to_platform, doc = "The base image, an OCI layout directory."),
        "platform": attr.string(mandatory = True, values = PLATFORMS.keys(), doc = "The platform, as locks name it."),
        "_allowlist_function_transition": attr.label(default = "@bazel_tools//tools/allowlists/function_transition_allowlist"),
    },
    provides = [BaseImageInfo],
)
