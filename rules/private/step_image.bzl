"""step_image: the image of one step, from the layers of one environment of a lock."""

load("@rules_oci//oci:defs.bzl", "oci_image")
load("@rules_pkg//pkg:mappings.bzl", "pkg_attributes", "pkg_mkdirs")
load("@rules_pkg//pkg:pkg.bzl", "pkg_tar")
load(":layers.bzl", "layer_clashes", "venv_layer")

# Where packages are installed, fixed so that a layer fits every image; the layer tool writes it into scripts.
VENV = "/opt/venv"

# Metaflow unpacks its code package into the working directory, which must be writable for any user and hold no metaflow/.
WORKDIR = "/metaflow"

_ENV = {
    # Without it every task would install boto3 and requests with pip when it starts.
    "METAFLOW_SKIP_INSTALL_DEPENDENCIES": "1",
    "PATH": VENV + "/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "VIRTUAL_ENV": VENV,
}

def step_image(
        name,
        lock,
        environment,
        python,
        base,
        interpreter = "/usr/local/bin/python{python}",
        files = [],
        env = {},
        labels = {},
        tags = [],
        visibility = None):
    """One container image with the packages of one environment of a lock, usable without a flow.

    Args:
        name: name of the image target.
        lock: package and name of the lock, `examples/churn/churn_flow`, as a label of its directory would have it without `.lock`.
        environment: name of the environment in the lock; of a flow's lock, the step.
        python: version (X.Y) of the Python that the environment was locked for.
        base: any OCI image target for Linux, with bash, tar, gzip and that Python.
        interpreter: absolute path of the interpreter in the base; `{python}` stands for the version.
        files: pkg_files, pkg_filegroup and the like (rules_pkg): first-party files that must be in the image, as its topmost layer.
        env: additional environment variables of the image.
        labels: labels of the image.
        tags: tags of the image target.
        visibility: visibility of the image target.

    Targets produced by this macro:
        NAME: the image, an OCI layout directory. What else it makes starts with an underscore.
    """
    manual = ["manual"] + [tag for tag in tags if tag != "manual"]
    packages = "@mfbazel_locks//{}:{}.layers".format(lock, environment)
    packages = Label(packages)

    venv_layer(
        name = "_{}.venv".format(name),
        interpreter = interpreter.format(python = python),
        python = python,
        tags = manual,
        visibility = ["//visibility:private"],
    )
    pkg_mkdirs(
        name = "_{}.workdir".format(name),
        attributes = pkg_attributes(mode = "0777"),
        dirs = [WORKDIR],
        tags = manual,
        visibility = ["//visibility:private"],
    )
    pkg_tar(
        name = "_{}.files".format(name),
        srcs = ["_{}.workdir".format(name)] + files,
        tags = manual,
        visibility = ["//visibility:private"],
    )
    layer_clashes(
        name = "_{}.clashes".format(name),
        image = "//{}:{}".format(native.package_name(), name),
        layers = [packages],
        tags = manual,
        visibility = ["//visibility:private"],
    )
    oci_image(
        name = name,
        base = base,
        env = dict(_ENV, **env),
        labels = labels,
        tags = tags,
        # From what changes least to what changes most.
        tars = ["_{}.venv".format(name), packages, "_{}.files".format(name)],
        visibility = visibility,
        workdir = WORKDIR,
    )
