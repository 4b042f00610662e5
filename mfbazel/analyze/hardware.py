"""What decorators ask for in CPUs, memory and GPUs, and the platform that a selector of nodes means.

The values are those of @resources, @batch and @kubernetes that the flow's author gave; Metaflow's defaults are none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from mfbazel.analyze.errors import AnalyzeError
from mfbazel.analyze.model import Requests

ATTRIBUTES = ("cpu", "memory", "gpu")
_ARCHITECTURE = ("kubernetes.io/arch", "beta.kubernetes.io/arch")


def requests_of(declared: Iterable[Mapping[str, Any]]) -> Requests:
    """Return the largest value of each attribute, as Metaflow merges @resources into what runs the step.

    Args:
        declared: of each decorator the attributes ``cpu``, ``memory`` (MB) and ``gpu`` that the author gave, as numbers
            or text. ``None``, empty text and zero ask for nothing.

    Raises:
        AnalyzeError: a value is no number; :func:`amount` says which.
    """
    largest = dict.fromkeys(ATTRIBUTES, 0.0)
    for attributes in declared:
        for name in ATTRIBUTES:
            largest[name] = max(largest[name], amount(name, attributes.get(name)))
    return Requests(
        cpu=largest["cpu"] or None,
        memory=math.ceil(largest["memory"]) or None,
        gpu=int(largest["gpu"]) or None,
    )


def amount(name: str, value: Any) -> float:
    """Return the number that ``value`` of the attribute ``name`` means, 0 where it asks for nothing.

    Raises:
        AnalyzeError: it is no number, is negative or not finite, or is no whole number of GPUs.
    """
    if value is None or value == "":
        return 0.0
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise AnalyzeError(f"`{name}` is {_short(value)}, not a number: write one, such as `{name}=4`")
    if name == "gpu" and not number.is_integer():
        raise AnalyzeError(f"`gpu` is {_short(value)}, not a whole number: write `gpu={math.ceil(number)}`")
    return number


def platform_of(selector: Any) -> str | None:
    """Return ``linux/<arch>`` that the ``node_selector`` of @kubernetes asks for, ``None`` for any.

    Args:
        selector: a dict, or text such as ``kubernetes.io/arch=arm64,disk=ssd``.

    Raises:
        AnalyzeError: it is neither.
    """
    if not selector:
        return None
    if isinstance(selector, str):
        pairs = [item.partition("=") for item in selector.split(",")]
        if not all(equals for _, equals, _ in pairs):
            raise AnalyzeError(f"`node_selector` is {_short(selector)}, not of the form `key=value,key=value`")
        selector = {key: value for key, _, value in pairs}
    if not isinstance(selector, Mapping):
        raise AnalyzeError(f"`node_selector` is {_short(selector)}, neither a dict nor text")
    for key in _ARCHITECTURE:
        if selector.get(key):
            return f"linux/{selector[key]}"
    return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
