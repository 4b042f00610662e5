"""step_image: the image of one step, from the layers of one environment of a lock."""

load("@mfbazel_locks//:index.bzl", "LOCKS")
load("@rules_oci//oci:defs.bzl", "oci_image")
load("@rules_pkg//pkg:mappings.bzl", "pkg_attributes", "pkg_mkdirs")
load("@rules_pkg//pkg:pkg.bzl", "pkg_tar")
load(":interpreter_check.bzl", "interpreter_check")
load(":layers.bzl", "image_layers", "tar_layer", "venv_layer")
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
    if "unusable" in entry:
        fail("step_image {}: it needs the lock {}.lock, {}. Make it anew with: bazel run {}.lock".format(name, package, entry["unusable"], lock))
    if environment not in entry["pythons"]:
        fail("step_image {}: environment = {} is not in {}.lock, which has {}".format(name, repr(environment), package, ", ".join(entry["pythons"])))
    return entry["pythons"][environment]

def support_layers(name, image, base, python, interpreter, files, tags):
    """Declares the layers below and above the packages: the virtual environment, and first-party files with the working directory.

    Args:
        name: prefix of the targets.
        image: name of the image or flow that they are for, for messages.
        base: the base image.
        python: version (X.Y) of the image's Python.
        interpreter: absolute path of the interpreter in the base; `{python}` stands for the version.
        files: what rules_pkg makes of first-party files.
        tags: tags of the targets.

    Returns:
        struct of labels, `below` and `above`, and `check`, which fails when the base lacks the interpreter.
    """
    hidden = {
        "tags": ["manual"] + [tag for tag in tags if tag != "manual"],
        "visibility": ["//visibility:private"],
    }
    interpreter_check(
        name = name + ".interpreter",
        base = base,
        image = "//{}:{}".format(native.package_name(), image),
        interpreter = interpreter.format(python = python),
        **hidden
    )
    venv_layer(
        name = name + ".venv",
        interpreter = interpreter.format(python = python),
        python = python,
        **hidden
    )
    pkg_mkdirs(
        name = name + ".workdir",
        attributes = pkg_attributes(mode = "0777"),
        dirs = [WORKDIR],
        **hidden
    )
    pkg_tar(
        name = name + ".files",
        srcs = [name + ".workdir"] + files,
        **hidden
    )
    tar_layer(
        name = name + ".first_party",
        src = name + ".files",
        history = "first-party files",
        **hidden
    )
    return struct(above = name + ".first_party", below = name + ".venv", check = name + ".interpreter")

def locked_image(name, packages, support, base, env, labels, tags, visibility):
    """Declares the image of one environment of a lock.

    Args:
        name: name of the image.
        packages: label of the layers of the environment.
        support: what support_layers returned.
        base: the base image.
        env: additional environment variables.
        labels: labels of the image.
        tags: tags of the image target.
        visibility: visibility of the image target.
    """
    image_layers(
        name = "_{}.layers".format(name),
        checks = [support.check],
        image = "//{}:{}".format(native.package_name(), name),
        # From what changes least to what changes most.
        layers = [support.below, packages, support.above],
        tags = ["manual"] + [tag for tag in tags if tag != "manual"],
        visibility = ["//visibility:private"],
    )
    oci_image(
        name = name,
        base = base,
        env = dict(_ENV, **env),
        labels = labels,
        tags = tags,
        tars = ["_{}.layers".format(name)],
        visibility = visibility,
        workdir = WORKDIR,
    )

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
    package = lock_package(native.package_relative_label(lock))
    python = _locked_python(name, package, lock, environment)
    locked_image(
        name = name,
        base = base,
        env = env,
        labels = labels,
        packages = Label("@mfbazel_locks//{}:{}.layers".format(package, environment)),
        support = support_layers("_" + name, name, base, python, interpreter, files, tags),
        tags = tags,
        visibility = visibility,
    )
