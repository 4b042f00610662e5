"""What can be said of the images of a flow, and of an image without one, alike."""

load("@bazel_skylib//rules:write_file.bzl", "write_file")
load(":image_support.bzl", "VENV", "WORKDIR")
load(":layers.bzl", "COMPRESSIONS", "level_advice")

_ENV = {
    # Without it every task would install boto3 and requests with pip when it starts.
    "METAFLOW_SKIP_INSTALL_DEPENDENCIES": "1",
    "PATH": VENV + "/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "VIRTUAL_ENV": VENV,
}

def image_options(
        interpreter = "/usr/local/bin/python{python}",
        files = [],
        env = {},
        labels = {},
        annotations = {},
        entrypoint = [],
        user = None,
        workdir = WORKDIR,
        compression = "",
        compression_level = None,
        bytecode = None,
        stamp = -1):
    """Collects the options of images.

    Args:
        interpreter: absolute path of the interpreter in the base; `{python}` stands for the version.
        files: pkg_files and the like (rules_pkg).
        env: additional environment variables.
        labels: labels.
        annotations: annotations besides those that mfbazel sets; templates.
        entrypoint: entrypoint.
        user: user that containers run as.
        workdir: working directory.
        compression: of the layers.
        compression_level: of the layers.
        bytecode: whether the layers have byte code.
        stamp: 1, 0 or -1.

    Returns:
        struct of these.
    """
    for attribute, values in [("annotations", annotations), ("env", env), ("labels", labels)]:
        for key, value in values.items():
            # Assemblers read them from files, one per line.
            if "\n" in key + value:
                fail("attribute `{}`: {} has several lines: {}. Write it as one".format(attribute, repr(key), repr(value)))
    if compression not in COMPRESSIONS + [""]:
        fail("attribute `compression`: {} is none of {}".format(repr(compression), ", ".join(COMPRESSIONS)))
    if compression_level != None:
        if not compression:
            fail("attribute `compression_level`: {} needs the attribute `compression` beside it".format(compression_level))
        advice = level_advice(compression, str(compression_level))
        if advice:
            fail("attribute `compression_level`: {} does not fit compression = {}: {}".format(compression_level, repr(compression), advice))
    return struct(
        annotations = annotations,
        # What attributes of image_layers say.
        layers = dict(
            bytecode = -1 if bytecode == None else int(bytecode),
            compression = compression,
            compression_level = "" if compression_level == None else str(compression_level),
        ),
        entrypoint = entrypoint,
        env = dict(_ENV, **env),
        files = files,
        interpreter = interpreter,
        labels = labels,
        stamp = stamp,
        user = user,
        workdir = workdir,
    )

def options_files(name, options, hidden):
    """Declares the files by which an assembler is told of environment, labels and entrypoint: one of each for all images of a flow.

    Args:
        name: prefix of the targets.
        options: what image_options returned.
        hidden: tags and visibility of the targets.

    Returns:
        dict of attributes of an assembler.
    """
    lines = {
        "env": ["{}={}".format(key, value) for key, value in options.env.items()],
        "labels": ["{}={}".format(key, value) for key, value in options.labels.items()],
        # A newline within one of them as rules_oci writes it.
        "entrypoint": [word.replace("\n", "%5Cn") for word in options.entrypoint],
    }
    attributes = {"workdir": options.workdir}
    if options.user:
        attributes["user"] = options.user
    for what, content in lines.items():
        if content:
            write_file(
                name = "{}.{}".format(name, what),
                out = "{}.{}.txt".format(name, what),
                content = content + [""],
                **hidden
            )
            attributes[what] = "{}.{}.txt".format(name, what)
    return attributes
