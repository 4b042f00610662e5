"""What Metaflow knows of a flow once every Config, mutator and decorator is processed, as JSON values."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

_PACKAGES = ("pypi", "conda")
_HARDWARE = ("resources", "batch", "kubernetes")
_HARDWARE_ATTRIBUTES = ("image", "cpu", "memory", "gpu", "node_selector")


def describe(flow: Any, graph: Any) -> dict[str, Any]:
    """Return what an initialised flow is.

    Args:
        flow: the flow, an instance of its class, under the environment ``bazel``.
        graph: its ``FlowGraph``.

    Returns:
        ``name``; ``start`` and ``end``, the names of the first and the last step; ``bases``, the names of all classes
        that the flow is made of, as ``module.Class``; and ``steps`` in the graph's order, each with

        * ``name``, ``type`` and ``next`` as Metaflow's graph has them;
        * ``module``, ``file`` and ``line``: where the code of the step starts (its first decorator where it has any);
        * ``decorators``: those that the flow's author or a mutator put there, each with ``name``, ``attributes`` (of
          the remote decorators and @resources: those the author gave) and ``origin``, where it was put there, which
          is ``None`` unless who started Metaflow recorded it (attributes ``mfbazel_given``, ``mfbazel_origin``);
        * ``packages``: by ``pypi`` and ``conda``, where the step has them: ``own`` and ``base``, what the step and the
          flow say (``None`` where they have no such decorator), ``merged``, what Metaflow makes of it, and ``origin``
          and ``base_origin``. ``packages`` in them is a list of pairs of key and value.

        A value that JSON has no form for is ``{"repr": …}``.
    """
    return {
        "name": flow.name,
        # Before @step(start=True), these steps had these names.
        "start": getattr(graph, "start_step", "start"),
        "end": getattr(graph, "end_step", "end"),
        "bases": [f"{base.__module__}.{base.__qualname__}" for base in type(flow).__mro__],
        "steps": [_step(flow, graph, name) for name in graph.sorted_nodes],
    }


def _step(flow: Any, graph: Any, name: str) -> dict[str, Any]:
    node = graph[name]
    step = getattr(flow, name)
    authored = [deco for deco in step.decorators if _is_authored(deco)]
    return {
        "name": name,
        "type": node.type,
        "next": list(node.out_funcs),
        **_code(step),
        "decorators": [
            {"name": deco.name, "attributes": _hardware(deco), "origin": _origin(deco)} for deco in authored
        ],
        "packages": {deco.name: _packages(flow, deco) for deco in step.decorators if deco.name in _PACKAGES},
    }


def _is_authored(deco: Any) -> bool:
    """Say whether the flow's source or a mutator put ``deco`` there, and not an environment or the command line."""
    return bool(deco.statically_defined or deco.inserted_by)


def _code(step: Any) -> dict[str, Any]:
    function = inspect.unwrap(getattr(step, "__func__", step))
    code = getattr(function, "__code__", None)
    return {
        "module": getattr(function, "__module__", None),
        "file": getattr(code, "co_filename", None),
        "line": getattr(code, "co_firstlineno", None),
    }


def _origin(deco: Any) -> Mapping[str, Any] | None:
    origin: Mapping[str, Any] | None = getattr(deco, "mfbazel_origin", None)
    return origin


def _hardware(deco: Any) -> dict[str, Any]:
    """Return what the author said of images and hardware."""
    if deco.name not in _HARDWARE:
        return {}
    given: Mapping[str, Any] | None = getattr(deco, "mfbazel_given", None)
    if given is None:
        given = {name: deco.attributes[name] for name in deco._user_defined_attributes if name in deco.attributes}
    return {name: _value(given[name]) for name in _HARDWARE_ATTRIBUTES if name in given}


def _packages(flow: Any, deco: Any) -> dict[str, Any]:
    bases = flow._flow_decorators.get(f"{deco.name}_base")
    base = bases[0] if bases else None
    return {
        "own": _plain(getattr(deco, "own_attributes", deco.attributes)) if _is_authored(deco) else None,
        "base": _plain(base.attributes) if base else None,
        "merged": _plain(deco.attributes),
        "origin": _origin(deco),
        "base_origin": _origin(base) if base else None,
    }


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    packages = attributes["packages"] or {}
    is_table = isinstance(packages, Mapping)
    return {
        "packages": [[_value(key), _value(value)] for key, value in packages.items()]
        if is_table
        else {"repr": repr(packages)},
        "python": _value(attributes["python"]),
        "disabled": _value(attributes["disabled"]),
    }


def _value(value: Any) -> Any:
    """Return ``value`` as JSON has it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_value(item) for item in value]
    return {"repr": repr(value)}
