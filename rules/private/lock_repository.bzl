"""The repository that turns locks into targets: one package per lock, and an index of the flows."""

load(":lock_package.bzl", "layers_target")
load(":wheel_targets.bzl", "wheel_repository_name")

_HEADER = """\
load("@rules_python//python:defs.bzl", "py_library")
load("{layers_bzl}", "layers", "wheel_layer")

package(default_visibility = ["//visibility:public"])
"""

_LIBRARY = """
py_library(
    name = {name},
    deps = {deps},
)
"""

_WHEEL_LAYER = """
wheel_layer(
    name = {name},
    layer_name = {layer_name},
    platform = {platform},
    python = {python},
    wheels = {wheels},
)
"""

_LAYERS = """
layers(
    name = {name},
    layers = {layers},
)
"""

_FILEGROUP = """
filegroup(
    name = {name},
    srcs = {srcs},
)
"""

def _wheel(sha256, target):
    return "@{}//:{}".format(wheel_repository_name(sha256), target)

def _python_targets(lock):
    """py_library targets: NAME for a whole environment, NAME/DISTRIBUTION for one distribution of it.

    NAME.sites is what these unpack, NAME.wheels are the wheels themselves. Programs that Bazel starts where they were
    built get byte code with their packages, which they cannot write there; a flow's Python keeps its own.
    """
    parts = []
    kind = "lib" if lock.get("flow") else "compiled_lib"
    for name, environment in sorted(lock["environments"].items()):
        wheels = environment["wheels"].get("linux/amd64", [])
        libraries = {lock["wheels"][sha256]["name"]: _wheel(sha256, kind) for sha256 in wheels}
        for distribution, library in sorted(libraries.items()):
            parts.append(_LIBRARY.format(name = repr(name + "/" + distribution), deps = repr([library])))
        parts.append(_LIBRARY.format(name = repr(name), deps = repr(libraries.values())))
        for group, target in ((".sites", "site"), (".wheels", "wheel")):
            parts.append(_FILEGROUP.format(name = repr(name + group), srcs = repr([_wheel(sha256, target) for sha256 in wheels])))
    return parts

def _layer_targets(lock):
    """Layers of every environment of a flow, per platform: a wheel alone in a layer shares it with every other lock.

    Returns the targets as text, and the labels of the layers by environment and platform.
    """
    parts = []
    groups = {}
    pythons = {name: environment["python"] for name, environment in lock["environments"].items()}
    of_environment = {name: {} for name in pythons if not name.startswith("_")}
    for platform, plan in sorted(lock.get("layers", {}).items()):
        for layer in plan:
            for python in sorted({pythons[name]: None for name in layer["environments"]}):
                target = _layer_label(layer, python, platform, groups, parts)
                for environment in layer["environments"]:
                    if pythons[environment] == python:
                        of_environment[environment].setdefault(platform, []).append(target)
    for name, platforms in sorted(of_environment.items()):
        for platform in sorted(lock.get("layers", {})):
            parts.append(_LAYERS.format(
                name = repr(layers_target(name, platform)),
                layers = repr(platforms.get(platform, [])),
            ))
    return parts, of_environment

def _layer_label(layer, python, platform, groups, parts):
    """The label of a layer of the plan; a group of wheels that is not there yet is declared. Groups without binaries are the same on all platforms."""
    if len(layer["wheels"]) == 1:
        return _wheel(layer["wheels"][0], "layer_" + python)
    key = (python, tuple(layer["wheels"]))
    if key not in groups:
        name = "{}_{}_{}".format(layer["name"], python, platform.replace("/", "_"))
        groups[key] = ":" + name
        parts.append(_WHEEL_LAYER.format(
            name = repr(name),
            layer_name = repr(layer["name"]),
            platform = repr(platform),
            python = repr(python),
            wheels = repr([_wheel(sha256, "wheel") for sha256 in layer["wheels"]]),
        ))
    return groups[key]

def _equal_environments(lock, of_environment):
    """Environment to the first one, in the order of the steps, that has the same Python and layers: their images are one."""
    flow = lock.get("flow") or {"steps": []}
    names = [step["environment"] for step in flow["steps"]]
    names += [name for name in sorted(of_environment) if name not in names]
    first = {}
    return {
        name: first.setdefault(repr((lock["environments"][name]["python"], sorted(of_environment[name].items()))), name)
        for name in names
    }

def _entry(lock, of_environment):
    """What a macro may know of a lock while packages load: nothing else makes them load again."""
    flow = lock.get("flow") or {"steps": []}
    return {
        "asked": {step["name"]: step["platform"] for step in flow["steps"] if step.get("platform")},
        "disabled": [step["name"] for step in flow["steps"] if step.get("disabled")],
        "equal": _equal_environments(lock, of_environment),
        "gpu": [step["name"] for step in flow["steps"] if step.get("gpu")],
        "platforms": sorted(lock.get("layers", {})),
        "plain": [step["name"] for step in flow["steps"] if not lock["environments"][step["environment"]]["requirements"]],
        "pythons": {name: environment["python"] for name, environment in lock["environments"].items()},
        "steps": {step["name"]: step["environment"] for step in flow["steps"]},
    }

def _lock_repository_impl(repository_ctx):
    index = {}
    wheels = {}
    for package, content in repository_ctx.attr.locks.items():
        lock = json.decode(content)
        parts = [_HEADER.format(layers_bzl = repository_ctx.attr._layers_bzl)]
        parts += _python_targets(lock)
        layers, of_environment = _layer_targets(lock)
        parts += layers
        repository_ctx.file(package + "/BUILD.bazel", "".join(parts))
        index[package] = _entry(lock, of_environment)
        for sha256 in lock["wheels"]:
            wheels.setdefault(sha256, []).append(package + ".lock")
    for package, reason in repository_ctx.attr.unusable.items():
        index[package] = {"unusable": reason}
    repository_ctx.file("BUILD.bazel", "")
    repository_ctx.file("wheels.json", json.encode(wheels))
    repository_ctx.file("index.bzl", "# The locks of the workspace, by package and name.\nLOCKS = {}\n".format(repr(index)))

lock_repository = repository_rule(
    implementation = _lock_repository_impl,
    doc = "Targets of all locks.",
    attrs = {
        "locks": attr.string_dict(doc = "Content of flow.json by package and name of the lock: examples/churn/churn_flow."),
        "unusable": attr.string_dict(doc = "Why a lock cannot be used, by package and name."),
        "_layers_bzl": attr.label(default = "//rules/private:layers.bzl"),
    },
)
