"""The repository that turns locks into targets: one package per lock, and an index of the flows."""

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

    NAME.sites is what these unpack, NAME.wheels are the wheels themselves.
    """
    parts = []
    for name, environment in sorted(lock["environments"].items()):
        wheels = environment["wheels"].get("linux/amd64", [])
        libraries = {lock["wheels"][sha256]["name"]: _wheel(sha256, "lib") for sha256 in wheels}
        for distribution, library in sorted(libraries.items()):
            parts.append(_LIBRARY.format(name = repr(name + "/" + distribution), deps = repr([library])))
        parts.append(_LIBRARY.format(name = repr(name), deps = repr(libraries.values())))
        for group, target in ((".sites", "site"), (".wheels", "wheel")):
            parts.append(_FILEGROUP.format(name = repr(name + group), srcs = repr([_wheel(sha256, target) for sha256 in wheels])))
    return parts

def _layer_targets(lock):
    """Layers of every environment of a flow: a wheel alone in a layer shares it with every other lock."""
    parts = []
    plan = lock.get("layers", {}).get("linux/amd64", [])
    pythons = {name: environment["python"] for name, environment in lock["environments"].items()}
    of_environment = {name: [] for name in pythons if not name.startswith("_")}
    for layer in plan:
        for python in sorted({pythons[name]: None for name in layer["environments"]}):
            if len(layer["wheels"]) == 1:
                target = _wheel(layer["wheels"][0], "layer_" + python)
            else:
                name = "{}_{}".format(layer["name"], python)
                target = ":" + name
                parts.append(_WHEEL_LAYER.format(
                    name = repr(name),
                    layer_name = repr(layer["name"]),
                    python = repr(python),
                    wheels = repr([_wheel(sha256, "wheel") for sha256 in layer["wheels"]]),
                ))
            for environment in layer["environments"]:
                if pythons[environment] == python:
                    of_environment[environment].append(target)
    for name, targets in sorted(of_environment.items()):
        parts.append(_LAYERS.format(name = repr(name + ".layers"), layers = repr(targets)))
    return parts

def _entry(lock):
    """What a macro may know of a lock while packages load: nothing else makes them load again."""
    flow = lock.get("flow") or {"steps": []}
    return {
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
        parts += _layer_targets(lock)
        repository_ctx.file(package + "/BUILD.bazel", "".join(parts))
        index[package] = _entry(lock)
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
