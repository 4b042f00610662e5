"""One image from one environment of a lock, for each of its platforms."""

load(":assembled_image.bzl", "assembled_image", "assembled_index")
load(":image_metadata.bzl", "image_metadata")
load(":layers.bzl", "image_layers")
load(":lock_package.bzl", "layers_target")

def hidden_attributes(tags):
    """Tags and visibility of targets that are no one's business."""
    return {
        "tags": ["manual"] + [tag for tag in tags if tag != "manual"],
        "visibility": ["//visibility:private"],
    }

def platform_slug(platform):
    """`linux_amd64` of `linux/amd64`, for names of targets."""
    return platform.replace("/", "_")

def platform_image(name, platform, platforms):
    """Name of the image of one platform of an image.

    Args:
        name: name of the image.
        platform: the platform.
        platforms: all platforms of the image.
    """
    return name if len(platforms) == 1 else "{}.{}".format(name, platform_slug(platform))

def locked_image(name, subject, platforms, support, options, attributes, tags, visibility, derived_from = None):
    """Declares the image of an environment of a lock; an index where it is for several platforms.

    Args:
        name: name of the image.
        subject: struct: `package` of the lock in @mfbazel_locks, `lock` (label of its flow.json), `environment`, `includes` (environments that lie below it in its image), `label` of the flow or image, `steps` that run in it.
        platforms: the platforms.
        support: dict of platform to struct of names: `base`, `checks`, `below` and `above`, the layers below and above the packages.
        options: what image_options returned.
        attributes: what options_files returned.
        tags: tags of the image's targets.
        visibility: visibility of the image's targets.
        derived_from: name of the image of another environment that the bases are of.
    """
    hidden = hidden_attributes(tags)
    common = dict(
        annotations = options.annotations,
        environment = subject.environment,
        includes = subject.includes,
        image = subject.label,
        lock = subject.lock,
        stamp = options.stamp,
        steps = subject.steps,
    )
    for platform in platforms:
        image = platform_image(name, platform, platforms)
        private = "_{}.{}".format(name, platform_slug(platform))
        parts = support[platform]
        image_layers(
            name = private + ".layers",
            below = "_{}.{}.layers".format(derived_from, platform_slug(platform)) if derived_from else None,
            checks = parts.checks,
            image = "//{}:{}".format(native.package_name(), name),
            # From what changes least to what changes most.
            layers = [
                parts.below,
                Label("@mfbazel_locks//{}:{}".format(subject.package, layers_target(subject.environment, platform))),
                parts.above,
            ],
            **dict(options.layers, **hidden)
        )
        metadata = image_metadata(private + ".metadata", base = parts.base, platform = platform, **dict(common, **hidden))
        assembled_image(
            name = image,
            annotations = metadata.annotations,
            base = parts.base,
            created = metadata.created,
            tags = tags,
            tars = [private + ".layers"],
            visibility = visibility,
            **attributes
        )
    if len(platforms) > 1:
        metadata = image_metadata("_{}.metadata".format(name), **dict(common, **hidden))
        assembled_index(
            name = name,
            annotations = metadata.annotations,
            images = [platform_image(name, platform, platforms) for platform in platforms],
            tags = tags,
            visibility = visibility,
        )
