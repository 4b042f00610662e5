"""All step images of a flow, with images.json."""

load("//rules/private/providers:flow_images_info.bzl", "FlowImagesInfo")
load(":policy.bzl", "POLICY_ATTRS", "add_policy")
load(":stamping.bzl", "STAMP_ATTRS", "add_status")
load(":worker_action.bzl", "run_in_worker")

def _flow_images_impl(ctx):
    images = {step: target.files.to_list()[0] for target, steps in ctx.attr.images.items() for step in steps.split(",")}
    images = {step: images[step] for step in ctx.attr.steps}
    output = ctx.actions.declare_file(ctx.label.name + "/images.json")
    arguments = ctx.actions.args()
    arguments.add("images-json")
    arguments.add("--lock", ctx.file.lock)
    arguments.add("--label", ctx.attr.flow_label)
    if ctx.attr.repository:
        arguments.add("--repository", ctx.attr.repository)
    arguments.add_all(ctx.attr.remote_tags, before_each = "--tag")
    arguments.add_all(ctx.attr.foreign, before_each = "--foreign")
    arguments.add_all(["{}={}".format(step, ",".join(steps)) for step, steps in ctx.attr.includes.items()], before_each = "--includes")
    status = add_status(ctx, arguments) + add_policy(ctx, arguments)
    arguments.add("--output", output)
    for step, image in images.items():
        arguments.add_all("--step", [image], expand_directories = False, format_each = step + "=%s")
    run_in_worker(
        ctx,
        executable = ctx.executable._image,
        arguments = arguments,
        inputs = [ctx.file.lock, ctx.file.lock_check] + images.values() + status,
        outputs = [output],
        mnemonic = "FlowImages",
        progress_message = "Writing images.json of " + ctx.attr.flow_label,
    )
    runfiles = ctx.runfiles([output] + images.values())
    runfiles = runfiles.merge_all([target[DefaultInfo].default_runfiles for target in ctx.attr.images])
    return [
        DefaultInfo(files = depset([output] + images.values()), runfiles = runfiles),
        OutputGroupInfo(json = depset([output])),
        FlowImagesInfo(images = images, json = output, label = ctx.attr.flow_label),
    ]

flow_images = rule(
    implementation = _flow_images_impl,
    doc = "Collects the step images of a flow. The digests in images.json are those that a push gives.",
    attrs = dict(STAMP_ATTRS, **dict(POLICY_ATTRS, **{
        "flow_label": attr.string(mandatory = True, doc = "The flow as on a command line, //package:name."),
        "foreign": attr.string_list(doc = "Steps whose image is not made from the lock."),
        "images": attr.label_keyed_string_dict(mandatory = True, doc = "Image to the steps that run in it, separated by commas."),
        "includes": attr.string_list_dict(doc = "Step to the steps whose images its image is derived from."),
        "lock": attr.label(mandatory = True, allow_single_file = True, doc = "flow.json of the lock."),
        "lock_check": attr.label(mandatory = True, allow_single_file = True, doc = "Result of flow_lock_check."),
        "remote_tags": attr.string_list(doc = "Templates of tags."),
        "repository": attr.string(doc = "Template of the repository that images are pushed to; empty for the embedded registry."),
        "steps": attr.string_list(doc = "The steps in topological order."),
        "_image": attr.label(default = "//mfbazel/image", executable = True, cfg = "exec"),
    })),
)
