"""Rules that make the layers of step images, each from its own inputs and from nothing else."""

load("@bazel_skylib//rules:common_settings.bzl", "BuildSettingInfo")
load("@rules_python//python:py_runtime_info.bzl", "PyRuntimeInfo")
load("//rules/private/providers:layer_info.bzl", "AllLayersInfo", "LayerInfo", "LayersInfo")
load("//rules/private/providers:wheel_info.bzl", "WheelInfo")
load(":worker_action.bzl", "run_in_worker")

_EXTENSIONS = {
    "gzip": "tar.gz",
    "none": "tar",
    "zstd": "tar.zst",
}

# Lowest and highest level of each compression that has any.
_LEVELS = {
    "gzip": (1, 9),
    "zstd": (1, 19),
}

LAYER_TOOL = {
    "_compression": attr.label(default = "//rules:compression", providers = [BuildSettingInfo]),
    "_compression_level": attr.label(default = "//rules:compression_level", providers = [BuildSettingInfo]),
    "_layer": attr.label(default = "//mfbazel/layer", executable = True, cfg = "exec"),
}

COMPRESSIONS = _EXTENSIONS.keys()

def level_advice(compression, level):
    """Returns what to do about a level that a compression does not have, None where it has it.

    Args:
        compression: the compression.
        level: the level, a string; empty for the default.
    """
    lowest, highest = _LEVELS.get(compression, (1, 0))
    if not level or (level.isdigit() and lowest <= int(level) and int(level) <= highest):
        return None
    if compression in _LEVELS:
        return "choose a whole number from {} to {}, or leave it out for the default".format(lowest, highest)
    return "leave it out"

def declare_layer(ctx, command, name, history):
    """Declares the three files of a layer.

    Args:
        ctx: rule context with the attributes of LAYER_TOOL.
        command: the sub-command that makes it.
        name: file name without extension.
        history: what the history of an image says of the layer.

    Returns:
        tuple of LayerInfo, Args that begin with the command, the outputs and the compression, and list of the output files.
    """
    compression = ctx.attr._compression[BuildSettingInfo].value
    level = ctx.attr._compression_level[BuildSettingInfo].value
    advice = level_advice(compression, level)
    if advice:
        fail("--@mfbazel//rules:compression_level={} does not fit --@mfbazel//rules:compression={}: {}".format(level, compression, advice))
    layer = LayerInfo(
        blob = ctx.actions.declare_file("{}.{}".format(name, _EXTENSIONS[compression])),
        descriptor = ctx.actions.declare_file(name + ".descriptor.json"),
        files = ctx.actions.declare_file(name + ".files.tsv"),
        history = history,
    )
    arguments = ctx.actions.args()
    arguments.add(command)
    arguments.add("--compression", compression)
    if level:
        arguments.add("--level", level)
    arguments.add("--blob", layer.blob)
    arguments.add("--descriptor", layer.descriptor)
    arguments.add("--files", layer.files)
    return layer, arguments, [layer.blob, layer.descriptor, layer.files]

def layer_providers(layer, **output_groups):
    """Returns the providers of a target that is one layer.

    Args:
        layer: LayerInfo of the layer.
        **output_groups: additional output groups, depsets of files.
    """
    return [
        DefaultInfo(files = depset([layer.blob])),
        OutputGroupInfo(descriptor = depset([layer.descriptor]), files = depset([layer.files]), **output_groups),
        LayersInfo(layers = [layer]),
    ]

def _bytecode(ctx, arguments):
    """Adds the options for byte code; returns a depset of what the compiler needs."""
    if not ctx.attr._bytecode[BuildSettingInfo].value:
        return depset()
    arguments.add("--bytecode")
    chosen = ctx.attr._bytecode_python
    if PyRuntimeInfo not in chosen:
        if chosen[DefaultInfo].files:
            fail("--@mfbazel//rules:bytecode_python={} is no py_runtime target".format(chosen.label))
        return depset()
    runtime = chosen[PyRuntimeInfo]
    if runtime.interpreter:
        arguments.add("--compiler", runtime.interpreter)
        return depset([runtime.interpreter], transitive = [runtime.files])
    arguments.add("--compiler", runtime.interpreter_path)
    return depset()

def _wheel_layer_impl(ctx):
    layer, arguments, outputs = declare_layer(ctx, "wheels", ctx.label.name, "packages {}".format(ctx.attr.layer_name))
    wheels = [target[WheelInfo] for target in ctx.attr.wheels]
    arguments.add("--python", ctx.attr.python)
    arguments.add("--name", ctx.attr.layer_name)
    if ctx.attr.platform:
        arguments.add("--platform", ctx.attr.platform)

    # The repository rule has checked the hashes of the wheels: they are read once here.
    arguments.add_all([wheel.file for wheel in wheels])
    for wheel in wheels:
        if wheel.direct_url:
            arguments.add("--direct-url", "{}={}".format(wheel.file.basename, wheel.direct_url))
    limits = ctx.attr._limits[BuildSettingInfo].value
    if limits:
        arguments.add("--limits", limits)
    compiler = _bytecode(ctx, arguments)
    run_in_worker(
        ctx,
        executable = ctx.executable._layer,
        arguments = arguments,
        inputs = depset([wheel.file for wheel in wheels], transitive = [compiler]),
        outputs = outputs,
        mnemonic = "WheelLayer",
        progress_message = "Making layer {} of {} wheel(s)".format(ctx.attr.layer_name, len(wheels)),
        # The compressor runs beside the reader.
        resource_set = _two_cores,
    )
    return layer_providers(layer)

def _two_cores(_os, _inputs):
    return {"cpu": 2, "memory": 256}

wheel_layer = rule(
    implementation = _wheel_layer_impl,
    doc = "One layer of wheels, installed into the virtual environment of step images. A layer does not know which images it goes into.",
    attrs = dict(
        LAYER_TOOL,
        layer_name = attr.string(mandatory = True, doc = "The layer's name in the lock's plan; messages use it."),
        platform = attr.string(doc = "Platform, as in linux/amd64, that the wheels must be for; empty where a lock's choice of a single wheel says it."),
        python = attr.string(mandatory = True, doc = "Version of the image's Python, X.Y."),
        _bytecode = attr.label(default = "//rules:bytecode", providers = [BuildSettingInfo]),
        _bytecode_python = attr.label(default = "//rules:bytecode_python", cfg = "exec"),
        _limits = attr.label(default = "//rules:wheel_limits", providers = [BuildSettingInfo]),
        wheels = attr.label_list(mandatory = True, providers = [WheelInfo], doc = "The wheels."),
    ),
)

def _venv_layer_impl(ctx):
    layer, arguments, outputs = declare_layer(ctx, "venv", ctx.label.name, "virtual environment of Python {}".format(ctx.attr.python))
    arguments.add("--python", ctx.attr.python)
    arguments.add("--interpreter", ctx.attr.interpreter)
    if ctx.attr.system_packages:
        arguments.add("--system-packages")
    run_in_worker(
        ctx,
        executable = ctx.executable._layer,
        arguments = arguments,
        outputs = outputs,
        mnemonic = "VenvLayer",
        progress_message = "Making layer of the virtual environment for Python " + ctx.attr.python,
    )
    return layer_providers(layer)

venv_layer = rule(
    implementation = _venv_layer_impl,
    doc = "The layer that holds the skeleton of the virtual environment: pyvenv.cfg and links to the base's interpreter.",
    attrs = dict(
        LAYER_TOOL,
        interpreter = attr.string(mandatory = True, doc = "Absolute path of the interpreter in the base image."),
        python = attr.string(mandatory = True, doc = "Version of that interpreter, X.Y."),
        system_packages = attr.bool(doc = "Whether the base image's own packages can be imported too."),
    ),
)

def _tar_layer_impl(ctx):
    layer, arguments, outputs = declare_layer(ctx, "tar", ctx.label.name, ctx.attr.history)
    arguments.add("--blob-in", ctx.file.src)
    arguments.add("--distribution", ctx.attr.history)
    run_in_worker(
        ctx,
        executable = ctx.executable._layer,
        arguments = arguments,
        inputs = [ctx.file.src],
        outputs = outputs,
        mnemonic = "TarLayer",
        progress_message = "Making a layer of " + ctx.file.src.short_path,
    )
    return layer_providers(layer)

tar_layer = rule(
    implementation = _tar_layer_impl,
    doc = "A layer that holds what a tar holds.",
    attrs = dict(
        LAYER_TOOL,
        history = attr.string(mandatory = True, doc = "What the history of an image says of the layer."),
        src = attr.label(mandatory = True, allow_single_file = True, doc = "The tar."),
    ),
)

def _layers_impl(ctx):
    layers = [layer for target in ctx.attr.layers for layer in target[LayersInfo].layers]
    return [
        DefaultInfo(files = depset([layer.blob for layer in layers], order = "preorder")),
        LayersInfo(layers = layers),
    ]

layers = rule(
    implementation = _layers_impl,
    doc = "The layers of one environment, in the order of the lock's plan.",
    attrs = {
        "layers": attr.label_list(providers = [LayersInfo], doc = "From the bottom to the top."),
    },
)

_COMPRESSION = "//rules:compression"
_LEVEL = "//rules:compression_level"
_BYTECODE = "//rules:bytecode"

def _layer_settings_impl(settings, attr):
    return {
        _BYTECODE: settings[_BYTECODE] if attr.bytecode == -1 else attr.bytecode == 1,
        _COMPRESSION: attr.compression or settings[_COMPRESSION],
        # A level goes with its compression.
        _LEVEL: attr.compression_level if attr.compression else settings[_LEVEL],
    }

_layer_settings = transition(
    implementation = _layer_settings_impl,
    inputs = [_BYTECODE, _COMPRESSION, _LEVEL],
    outputs = [_BYTECODE, _COMPRESSION, _LEVEL],
)

def _image_layers_impl(ctx):
    below = ctx.attr.below[AllLayersInfo].layers if ctx.attr.below else []
    there = {layer.blob: None for layer in below}
    above = [layer for target in ctx.attr.layers for layer in target[LayersInfo].layers if layer.blob not in there]
    files = [layer.files for layer in below + above]
    checked = ctx.actions.declare_file(ctx.label.name + ".checked")
    arguments = ctx.actions.args()
    arguments.add("clashes")
    arguments.add("--image", ctx.attr.image)
    arguments.add("--output", checked)
    arguments.add_all(files)
    run_in_worker(
        ctx,
        executable = ctx.executable._layer,
        arguments = arguments,
        inputs = files,
        outputs = [checked],
        mnemonic = "LayerClashes",
        progress_message = "Comparing the files of the layers of " + ctx.attr.image,
    )
    return [
        DefaultInfo(files = depset([layer.blob for layer in above], order = "preorder")),
        LayersInfo(layers = above),
        AllLayersInfo(layers = below + above),
        # A validation action: every build of an image that has these layers runs it, whichever rules assemble the image.
        OutputGroupInfo(_validation = depset([checked] + ctx.files.checks)),
    ]

image_layers = rule(
    implementation = _image_layers_impl,
    doc = "The layers of an image above its base. Fails when two of them hold one path with different content.",
    attrs = dict(
        LAYER_TOOL,
        below = attr.label(providers = [AllLayersInfo], doc = "The image_layers of the image that is the base, where it is one of a step: its layers are not added again."),
        bytecode = attr.int(default = -1, values = [-1, 0, 1], doc = "Whether layers have byte code; -1 for what //rules:bytecode says."),
        checks = attr.label_list(doc = "Other checks that every build of the image runs."),
        compression = attr.string(values = ["", "gzip", "none", "zstd"], doc = "How the layers are compressed; empty for what //rules:compression says."),
        compression_level = attr.string(doc = "At which level; empty for what //rules:compression_level says."),
        image = attr.string(mandatory = True, doc = "The image, for messages."),
        layers = attr.label_list(cfg = _layer_settings, providers = [LayersInfo], doc = "From the bottom to the top; each with a file list."),
        _allowlist_function_transition = attr.label(default = "@bazel_tools//tools/allowlists/function_transition_allowlist"),
    ),
)
