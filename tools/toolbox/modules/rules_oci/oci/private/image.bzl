"""oci_image over mfbazel's native assembler."""

load("@bazel_skylib//rules:write_file.bzl", "write_file")

# This module is a part of mfbazel: the rule is not for anybody else.
load("@mfbazel//rules/private:native_image.bzl", "native_image")  # buildifier: disable=bzl-visibility

def lines_file(name, what, value, forwarded):
    """Returns the label of a file for an attribute that is a dict or a list, and the attribute itself when it is a label or None."""
    if type(value) == "dict":
        content = ["{}={}".format(key, value[key]) for key in value]
    elif type(value) == "list":
        # A newline within one of them, as rules_oci writes it.
        content = [entry.replace("\n", "%5Cn") for entry in value]
    else:
        return value
    label = "_{}.{}.txt".format(name, what)
    write_file(name = "_{}.write_{}".format(name, what), out = label, content = content + [""], **forwarded)
    return label

def digest_target(name, **forwarded):
    """Declares NAME.digest, whose file NAME.json.sha256 holds the digest of the manifest."""
    native.filegroup(
        name = "_{}.digest_group".format(name),
        srcs = [name],
        output_group = "digest",
        **forwarded
    )
    native.genrule(
        name = name + ".digest",
        srcs = ["_{}.digest_group".format(name)],
        outs = [name + ".json.sha256"],
        cmd = "cp $< $@",
        **forwarded
    )

def oci_image(
        name,
        labels = None,
        annotations = None,
        env = None,
        cmd = None,
        entrypoint = None,
        exposed_ports = None,
        volumes = None,
        created = None,
        **kwargs):
    """An OCI image; see oci_image of rules_oci, which has the same attributes.

    Args:
        name: name of the image.
        labels: dict, or file of KEY=VALUE lines.
        annotations: dict, or file of KEY=VALUE lines.
        env: dict, or file of KEY=VALUE lines.
        cmd: list, or file with one argument per line.
        entrypoint: list, or file with one argument per line.
        exposed_ports: list, or file with one port per line.
        volumes: list, or file with one path per line.
        created: label of a file with an RFC 3339 time.
        **kwargs: base, tars, os, architecture, variant, user, workdir and the attributes that all rules have.
    """
    forwarded = {key: kwargs[key] for key in ["exec_compatible_with", "target_compatible_with", "testonly"] if key in kwargs}
    forwarded["tags"] = ["manual"] + [tag for tag in kwargs.get("tags") or [] if tag != "manual"]
    native_image(
        name = name,
        annotations = lines_file(name, "annotations", annotations, forwarded),
        cmd = lines_file(name, "cmd", cmd, forwarded),
        created = created,
        entrypoint = lines_file(name, "entrypoint", entrypoint, forwarded),
        env = lines_file(name, "env", env, forwarded),
        exposed_ports = lines_file(name, "exposed_ports", exposed_ports, forwarded),
        labels = lines_file(name, "labels", labels, forwarded),
        volumes = lines_file(name, "volumes", volumes, forwarded),
        **kwargs
    )
    digest_target(name, visibility = kwargs.get("visibility"), **forwarded)
