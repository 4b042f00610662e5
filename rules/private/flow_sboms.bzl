"""What is in the step images of a flow, and how they were made: SBOMs and provenance statements."""

load("@bazel_skylib//rules:common_settings.bzl", "BuildSettingInfo")
load("//rules/private/providers:flow_images_info.bzl", "FlowImagesInfo")
load(":stamping.bzl", "STAMP_ATTRS", "is_stamped")

def _documents(ctx, step, image, platform, name, provenance):
    """Describes one image.

    Args:
        ctx: rule context.
        step: name of the step.
        image: File: OCI layout directory of its image.
        platform: which image of the layout; "" where it has one.
        name: what the SBOMs are called.
        provenance: whether the statement, which is about all platforms, is made here.

    Returns:
        dict of output group to File.
    """
    outputs = {
        "cyclonedx": ctx.actions.declare_file("{}/{}.cdx.json".format(ctx.label.name, name)),
        "spdx": ctx.actions.declare_file("{}/{}.spdx.json".format(ctx.label.name, name)),
    }
    arguments = ctx.actions.args()
    arguments.add("--lock", ctx.file.lock)
    arguments.add("--label", ctx.attr.flow_label)
    arguments.add("--step", step)
    arguments.add_all(ctx.attr.includes.get(step, []), before_each = "--includes")
    arguments.add_all("--image", [image], expand_directories = False)
    inputs = [ctx.file.lock, image] + ctx.files.lock_files
    if ctx.attr.flow_images:
        arguments.add("--images", ctx.attr.flow_images[FlowImagesInfo].json)
        inputs.append(ctx.attr.flow_images[FlowImagesInfo].json)
    if platform:
        arguments.add("--platform", platform)
    if provenance:
        outputs["provenance"] = ctx.actions.declare_file("{}/{}.provenance.json".format(ctx.label.name, step))
        arguments.add("--builder-id", ctx.attr._builder_id[BuildSettingInfo].value)
    if is_stamped(ctx):
        arguments.add("--status", ctx.version_file)
        inputs.append(ctx.version_file)
    for group, output in outputs.items():
        arguments.add("--" + group, output)
    ctx.actions.run(
        executable = ctx.executable._sbom,
        arguments = [arguments],
        inputs = inputs,
        outputs = outputs.values(),
        mnemonic = "FlowSboms",
        progress_message = "Describing the image of step {} of {}".format(step, ctx.attr.flow_label),
    )
    return outputs

def _flow_sboms_impl(ctx):
    groups = {"cyclonedx": [], "provenance": [], "spdx": []}
    for target, steps in ctx.attr.images.items():
        image = target.files.to_list()[0]
        for step in steps.split(","):
            platforms = ctx.attr.platforms.get(step, [""])
            for platform in platforms:
                name = "{}.{}".format(step, platform.replace("/", "_")) if len(platforms) > 1 else step
                for group, output in _documents(ctx, step, image, platform, name, platform == platforms[0]).items():
                    groups[group].append(output)
    return [
        DefaultInfo(files = depset([output for outputs in groups.values() for output in outputs])),
        OutputGroupInfo(**{name: depset(outputs) for name, outputs in groups.items()}),
    ]

flow_sboms = rule(
    implementation = _flow_sboms_impl,
    doc = """SBOMs and provenance statements of the step images of a flow: <step>.spdx.json, <step>.cdx.json, <step>.provenance.json.

The SBOMs of a step with several platforms are <step>.linux_arm64.spdx.json and so on.""",
    attrs = dict(STAMP_ATTRS, **{
        "flow_images": attr.label(providers = [FlowImagesInfo], doc = "All images of the flow: images.json says where they are pushed to."),
        "flow_label": attr.string(mandatory = True, doc = "The flow as on a command line, //package:name."),
        "images": attr.label_keyed_string_dict(mandatory = True, doc = "Image to the steps that run in it, separated by commas."),
        "includes": attr.string_list_dict(doc = "Step to the steps whose images its image is derived from, all the way down."),
        "lock": attr.label(mandatory = True, allow_single_file = True, doc = "flow.json of the lock."),
        "lock_files": attr.label_list(allow_files = True, doc = "The other files of the lock."),
        "platforms": attr.string_list_dict(doc = "Step to the platforms of its image, of those whose image is an index."),
        "_builder_id": attr.label(default = "//rules:builder_id", providers = [BuildSettingInfo]),
        "_sbom": attr.label(default = "//mfbazel/sbom", executable = True, cfg = "exec"),
    }),
)
