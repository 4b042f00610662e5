"""oci_push over crane."""

load("@rules_python//python:defs.bzl", "py_binary")
load(":arguments.bzl", "image_arguments")

def oci_push(name, image, repository = None, repository_file = None, remote_tags = None, **kwargs):
    """`bazel run` pushes an image by digest, then gives it its tags; see oci_push of rules_oci.

    Args:
        name: name of the target.
        image: the image or index, an OCI layout directory.
        repository: repository in a registry, without tag.
        repository_file: file that holds the repository instead.
        remote_tags: list of tags, or a file with one per line.
        **kwargs: attributes that all rules have.
    """
    if (repository == None) == (repository_file == None):
        fail("oci_push {}: give one of repository and repository_file".format(name))
    arguments = ["--image", "{image}"]
    files = {Label("@mfbazel//rules/private:crane"): "--crane"}
    if repository:
        arguments += ["--repository", repository]
    else:
        files[repository_file] = "--repository-file"
    if type(remote_tags) == "list":
        for tag in remote_tags:
            arguments += ["--tag", tag]
    elif remote_tags:
        files[remote_tags] = "--tags-file"
    image_arguments(
        name = "_{}.arguments".format(name),
        arguments = arguments,
        files = files,
        image = image,
        tags = ["manual"],
    )
    py_binary(
        name = name,
        srcs = [Label("//oci/private:push.py")],
        args = ["@$(rootpath _{}.arguments)".format(name)],
        data = ["_{}.arguments".format(name)],
        legacy_create_init = 0,
        main = Label("//oci/private:push.py"),
        **kwargs
    )
