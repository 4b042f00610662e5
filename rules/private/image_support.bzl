"""What the images of one Python share besides their packages: the base, the virtual environment, first-party files."""

load("@rules_pkg//pkg:mappings.bzl", "pkg_attributes", "pkg_mkdirs")
load("@rules_pkg//pkg:pkg.bzl", "pkg_tar")
load(":first_party_files.bzl", "first_party_files")
load(":for_platform.bzl", "for_platform")
load(":interpreter_check.bzl", "interpreter_check")
load(":layers.bzl", "tar_layer", "venv_layer")
load(":platform_base.bzl", "platform_base")

# Where packages are installed, fixed so that a layer fits every image; the layer tool writes it into scripts.
VENV = "/opt/venv"

# Metaflow unpacks its code package into the working directory, which must be writable for any user and hold no metaflow/.
WORKDIR = "/metaflow"

def venv_support(name, python, interpreter, system_packages, files, code, workdir, hidden):
    """Declares the layers below and above the packages: the virtual environment, and first-party files with the working directory.

    Args:
        name: prefix of the targets.
        python: version (X.Y) of the image's Python.
        interpreter: absolute path of the interpreter in the base; `{python}` stands for the version.
        system_packages: whether the base's own packages can be imported too.
        files: what rules_pkg makes of first-party files.
        code: py_library targets whose modules are installed beside the packages.
        workdir: the working directory.
        hidden: tags and visibility of the targets.

    Returns:
        struct: `above`, name of the tar of first-party files; `below`, name of the layer of the virtual environment.
    """
    venv_layer(
        name = name + ".venv",
        interpreter = interpreter.format(python = python),
        python = python,
        system_packages = system_packages,
        **hidden
    )
    pkg_mkdirs(
        name = name + ".workdir",
        attributes = pkg_attributes(mode = "0777"),
        dirs = [workdir],
        **hidden
    )
    installed = []
    if code:
        first_party_files(
            name = name + ".code",
            prefix = "{}/lib/python{}/site-packages".format(VENV, python),
            deps = code,
            **hidden
        )
        installed.append(name + ".code")
    pkg_tar(
        name = name + ".files",
        srcs = [name + ".workdir"] + files + installed,
        **hidden
    )
    return struct(above = name + ".files", below = name + ".venv")

def base_support(name, image, base, platform, interpreter, hidden):
    """Declares a base image for one platform, and the check that it has the interpreter.

    Args:
        name: prefix of the targets.
        image: the image or flow that it is for, as on a command line, for messages.
        base: the base image.
        platform: as in `linux/amd64`.
        interpreter: absolute path of the interpreter in the base.
        hidden: tags and visibility of the targets.

    Returns:
        struct of names: `base`, `check`.
    """
    platform_base(
        name = name + ".base",
        actual = base,
        platform = platform,
        **hidden
    )
    interpreter_check(
        name = name + ".interpreter",
        base = name + ".base",
        image = image,
        interpreter = interpreter,
        **hidden
    )
    return struct(base = name + ".base", check = name + ".interpreter")

def files_support(name, files, platform, hidden):
    """Declares the layer of first-party files for one platform; returns its name.

    Args:
        name: prefix of the targets.
        files: name of the tar.
        platform: as in `linux/amd64`.
        hidden: tags and visibility of the targets.
    """
    for_platform(
        name = name + ".files_tar",
        actual = files,
        platform = platform,
        **hidden
    )
    tar_layer(
        name = name + ".first_party",
        src = name + ".files_tar",
        history = "first-party files",
        **hidden
    )
    return name + ".first_party"
