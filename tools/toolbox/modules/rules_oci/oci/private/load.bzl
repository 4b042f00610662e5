"""oci_load: an image as an archive that a container engine loads."""

load("@rules_python//python:defs.bzl", "py_binary")
load(":arguments.bzl", "image_arguments")

def _archive_impl(ctx):
    output = ctx.actions.declare_file(ctx.label.name + ".tar")
    arguments = ctx.actions.args()
    arguments.add("tarball")
    arguments.add_all("--layout", [ctx.file.image], expand_directories = False)
    arguments.add("--format", ctx.attr.format)
    arguments.add("--out", output)
    inputs = [ctx.file.image]
    for tag in ctx.attr.repo_tags:
        arguments.add("--tag", tag)
    if ctx.file.repo_tags_file:
        arguments.add("--tags-file", ctx.file.repo_tags_file)
        inputs.append(ctx.file.repo_tags_file)
    ctx.actions.run(
        executable = ctx.executable._image,
        arguments = [arguments],
        inputs = depset(inputs, transitive = [ctx.attr.image[DefaultInfo].default_runfiles.files]),
        outputs = [output],
        mnemonic = "OCITarball",
        progress_message = "Archiving image {}".format(ctx.attr.image.label),
    )
    return [DefaultInfo(files = depset([output])), OutputGroupInfo(tarball = depset([output]))]

_archive = rule(
    implementation = _archive_impl,
    attrs = {
        "format": attr.string(default = "docker", values = ["docker", "oci"]),
        "image": attr.label(mandatory = True, allow_single_file = True),
        "repo_tags": attr.string_list(),
        "repo_tags_file": attr.label(allow_single_file = True),
        "_image": attr.label(default = "@mfbazel//mfbazel/image", executable = True, cfg = "exec"),
    },
)

def oci_load(name, image, repo_tags, format = "docker", loader = "podman", **kwargs):
    """`bazel run` loads an image into a container engine of this machine; see oci_load of rules_oci.

    Args:
        name: name of the target.
        image: the image, an OCI layout directory.
        repo_tags: list of NAME:TAG, or a file with one per line.
        format: "docker" or "oci"; zstd layers need "oci".
        loader: the engine's executable.
        **kwargs: attributes that all rules have.
    """
    is_list = type(repo_tags) == "list"
    _archive(
        name = name + ".archive",
        format = format,
        image = image,
        repo_tags = repo_tags if is_list else [],
        repo_tags_file = None if is_list else repo_tags,
        tags = ["manual"],
    )
    image_arguments(
        name = "_{}.arguments".format(name),
        arguments = [loader, "load", "--input", "{image}"],
        image = name + ".archive",
        tags = ["manual"],
    )
    py_binary(
        name = name,
        srcs = [Label("//oci/private:run.py")],
        args = ["$(rootpath _{}.arguments)".format(name)],
        data = ["_{}.arguments".format(name)],
        legacy_create_init = 0,
        main = Label("//oci/private:run.py"),
        **kwargs
    )
