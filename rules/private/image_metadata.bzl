"""What an image says about itself, as files that every assembler takes."""

load(":stamping.bzl", "STAMP_ATTRS", "add_status")
load(":worker_action.bzl", "run_in_worker")

def _image_metadata_impl(ctx):
    annotations = ctx.actions.declare_file(ctx.label.name + ".annotations")
    created = ctx.actions.declare_file(ctx.label.name + ".created")
    arguments = ctx.actions.args()
    arguments.add("metadata")
    arguments.add("--lock", ctx.file.lock)
    arguments.add("--environment", ctx.attr.environment)
    arguments.add_all(ctx.attr.includes, before_each = "--includes")
    arguments.add("--label", ctx.attr.image)
    arguments.add_all(ctx.attr.steps, before_each = "--step")
    arguments.add_all(["{}={}".format(key, value) for key, value in ctx.attr.annotations.items()], before_each = "--annotation")
    inputs = [ctx.file.lock]
    if ctx.attr.platform:
        arguments.add("--platform", ctx.attr.platform)
    if ctx.attr.base:
        arguments.add_all("--base", [ctx.file.base], expand_directories = False)
        inputs.append(ctx.file.base)
    arguments.add("--annotations-out", annotations)
    arguments.add("--created-out", created)
    inputs += add_status(ctx, arguments)
    run_in_worker(
        ctx,
        executable = ctx.executable._image,
        arguments = arguments,
        inputs = inputs,
        outputs = [annotations, created],
        mnemonic = "ImageMetadata",
        progress_message = "Describing image " + ctx.attr.image,
    )
    return [
        DefaultInfo(files = depset([annotations])),
        OutputGroupInfo(annotations = depset([annotations]), created = depset([created])),
    ]

_image_metadata = rule(
    implementation = _image_metadata_impl,
    doc = "NAME.annotations, KEY=VALUE lines, and NAME.created, a time as in RFC 3339.",
    attrs = dict(
        STAMP_ATTRS,
        annotations = attr.string_dict(doc = "Further annotations; values may be templates."),
        base = attr.label(allow_single_file = True, doc = "The base image; not for an index."),
        environment = attr.string(mandatory = True, doc = "Environment of the lock."),
        image = attr.string(mandatory = True, doc = "The flow or the image, //package:name."),
        includes = attr.string_list(doc = "Environments of the images that it is derived from."),
        lock = attr.label(mandatory = True, allow_single_file = True, doc = "flow.json of the lock."),
        platform = attr.string(doc = "Platform of the image; empty for an index."),
        steps = attr.string_list(doc = "Steps that run in the image."),
        _image = attr.label(default = "//mfbazel/image", executable = True, cfg = "exec"),
    ),
)

def image_metadata(name, **kwargs):
    """Declares what an image says about itself.

    Args:
        name: prefix of the targets.
        **kwargs: attributes of the rule.

    Returns:
        struct of labels, `annotations` and `created`, each of one file.
    """
    _image_metadata(name = name, **kwargs)
    hidden = {key: kwargs[key] for key in ["tags", "visibility"]}
    for group in ["annotations", "created"]:
        native.filegroup(name = "{}.{}_file".format(name, group), srcs = [name], output_group = group, **hidden)
    return struct(annotations = name + ".annotations_file", created = name + ".created_file")
