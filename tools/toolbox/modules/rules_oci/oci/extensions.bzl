"""Module extensions, with the names and tags of rules_oci."""

load("//oci/private:pull.bzl", "oci_pull")

def _oci_impl(module_ctx):
    direct = []
    for module in module_ctx.modules:
        for pull in module.tags.pull:
            oci_pull(
                name = pull.name,
                digest = pull.digest,
                image = pull.image or "{}/{}".format(pull.registry, pull.repository),
                platforms = pull.platforms,
                repository_name = pull.name,
                tag = pull.tag,
            )
            for platform in pull.platforms:
                oci_pull(
                    name = pull.name + "_" + platform.replace("/", "_"),
                    digest = pull.digest,
                    image = pull.image or "{}/{}".format(pull.registry, pull.repository),
                    platform = platform,
                    repository_name = pull.name + "_" + platform.replace("/", "_"),
                    tag = pull.tag,
                )
            if module.is_root:
                direct += [pull.name] + [pull.name + "_" + platform.replace("/", "_") for platform in pull.platforms]
    return module_ctx.extension_metadata(root_module_direct_deps = direct, root_module_direct_dev_deps = [])

_PULL = tag_class(
    doc = "Pulls an image as an OCI layout.",
    attrs = {
        "bazel_tags": attr.string_list(doc = "Accepted; has no effect here."),
        "config": attr.label(doc = "Accepted; credentials are those that crane finds."),
        "digest": attr.string(doc = "Digest of the image or index."),
        "image": attr.string(doc = "Registry and repository; http:// in front allows a registry without TLS."),
        "name": attr.string(mandatory = True, doc = "Name of the repository."),
        "platforms": attr.string_list(doc = "OS/ARCH of a multi-platform image."),
        "registry": attr.string(doc = "Registry, with `repository` instead of `image`."),
        "repository": attr.string(doc = "Repository, with `registry` instead of `image`."),
        "reproducible": attr.bool(default = True, doc = "Accepted; pin by digest."),
        "tag": attr.string(doc = "Tag, where no digest is given."),
        "www_authenticate_challenges": attr.string_dict(doc = "Accepted; crane asks the registry."),
    },
)

oci = module_extension(implementation = _oci_impl, tag_classes = {"pull": _PULL})
