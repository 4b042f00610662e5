"""A base image, for one of the platforms of images, and the list of its files."""

load("//rules/private/providers:base_files_info.bzl", "BaseFilesInfo")
load(":for_platform.bzl", "PLATFORMS", "to_platform")
load(":worker_action.bzl", "run_in_worker")

def _base_files_impl(target, ctx):
    if BaseFilesInfo in target:
        return []
    layouts = target[DefaultInfo].files.to_list()
    if len(layouts) != 1:
        fail("{} is no image: it has {} outputs, and an OCI layout directory is one".format(target.label, len(layouts)))
    listing = ctx.actions.declare_file("_mfbazel/{}.files.json".format(ctx.label.name))
    arguments = ctx.actions.args()
    arguments.add("files")
    arguments.add_all("--base", layouts, expand_directories = False)
    arguments.add("--output", listing)
    run_in_worker(
        ctx,
        executable = ctx.executable._image,
        arguments = arguments,
        # The blobs of a layout may be links to the layers, which are in the runfiles.
        inputs = depset(layouts, transitive = [target[DefaultInfo].default_runfiles.files]),
        outputs = [listing],
        mnemonic = "BaseFiles",
        progress_message = "Listing the files of {}".format(target.label),
    )
    return [BaseFilesInfo(listing = listing)]

# An aspect: of a base that a thousand flows share, the layers are read once.
_base_files = aspect(
    implementation = _base_files_impl,
    doc = "Lists the files of an image; reads its layers.",
    attrs = {"_image": attr.label(default = "//mfbazel/image", executable = True, cfg = "exec")},
    provides = [BaseFilesInfo],
)

def _platform_base_impl(ctx):
    actual = ctx.attr.actual[0]
    return [
        DefaultInfo(files = actual[DefaultInfo].files, runfiles = actual[DefaultInfo].default_runfiles),
        actual[BaseFilesInfo],
    ]

platform_base = rule(
    implementation = _platform_base_impl,
    doc = "A base image, built for a platform whatever the build is for.",
    attrs = {
        "actual": attr.label(mandatory = True, aspects = [_base_files], cfg = to_platform, doc = "The base image, an OCI layout directory."),
        "platform": attr.string(mandatory = True, values = PLATFORMS.keys(), doc = "The platform, as locks name it."),
        "_allowlist_function_transition": attr.label(default = "@bazel_tools//tools/allowlists/function_transition_allowlist"),
    },
    provides = [BaseFilesInfo],
)
