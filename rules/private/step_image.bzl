"""step_image: the image of one step, from the layers of one environment of a lock."""

load("@mfbazel_locks//:index.bzl", "LOCKS")
load("@rules_oci//oci:defs.bzl", "oci_image")
load("@rules_pkg//pkg:mappings.bzl", "pkg_attributes", "pkg_mkdirs")
load("@rules_pkg//pkg:pkg.bzl", "pkg_tar")
load(":layers.bzl", "layer_clashes", "tar_layer", "venv_layer")
load(":lock_package.bzl", "lock_package")

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

def _locked_python(name, package, lock, environment):
    """Returns the version (X.Y) of the Python that an environment was locked for; fails when the lock has no such environment."""
    entry = LOCKS.get(package)
    if entry == None:
        fail("step_image {}: there is no lock {}.lock/flow.json. Make it with: bazel run {}.lock".format(name, package, lock))
    if environment not in entry["pythons"]:
        fail("step_image {}: environment = {} is not in {}.lock, which has {}".format(name, repr(environment), package, ", ".join(entry["pythons"])))
    return entry["pythons"][environment]

def step_image(
        name,
        lock,
        environment,
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
        lock: the lock, named as its flow: `//examples/churn:churn_flow` for the directory `examples/churn/churn_flow.lock`.
        environment: name of the environment in the lock, which stands for the requirement lockfile `<environment>.txt`; of a flow's lock, the step.
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
    package = lock_package(native.package_relative_label(lock))
    python = _locked_python(name, package, lock, environment)
    packages = Label("@mfbazel_locks//{}:{}.layers".format(package, environment))

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
    tar_layer(
        name = "_{}.first_party".format(name),
        src = "_{}.files".format(name),
        history = "first-party files",
        tags = manual,
        visibility = ["//visibility:private"],
    )
    layer_clashes(
        name = "_{}.clashes".format(name),
        image = "//{}:{}".format(native.package_name(), name),
        layers = ["_{}.venv".format(name), packages, "_{}.first_party".format(name)],
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
        tars = ["_{}.venv".format(name), packages, "_{}.first_party".format(name)],
        visibility = visibility,
        workdir = WORKDIR,
    )
