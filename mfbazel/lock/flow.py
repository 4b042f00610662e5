"""From a flow's declarations to environments: one per step, and the launcher's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mfbazel.analyze import FlowSpec, ReadOptions, Step, read_flow
from mfbazel.lock.errors import LockError
from mfbazel.lock.model import LAUNCHER, Environment, Wanted, parse_python, parse_wanted
from mfbazel.lock.runtime import DEFAULT_DATASTORES, runtime_requirements

DEFAULT_METAFLOW = "metaflow>=2.19.17"
"""The oldest Metaflow that the extension works with."""

# What mfbazel's Metaflow extension imports where Metaflow launches.
_EXTENSION_NEEDS = ("packaging",)

INFER = ("off", "check", "add")
"""What the packages that the code imports and nobody declares mean: nothing, an error, or requirements."""


@dataclass(frozen=True)
class FlowOptions:
    """The options of a flow's lock, named as the attributes of ``metaflow_flow``. ``runtime``: what Metaflow needs in
    images; ``None`` asks Metaflow, for ``datastores``."""

    flow: Path
    first_party: Sequence[Path]
    reading: ReadOptions
    metaflow: str = DEFAULT_METAFLOW
    launcher: Sequence[str] = ()
    runtime: Sequence[str] | None = None
    datastores: Sequence[str] = DEFAULT_DATASTORES
    infer: str = "check"
    imports: Mapping[str, str] = field(default_factory=dict)


def read_flow_environments(options: FlowOptions) -> tuple[dict[str, Any], list[Environment]]:
    """Read the flow; return the flow part of the contract and the environments, the launcher's first.

    Raises:
        mfbazel.analyze.AnalyzeError: the flow cannot be read.
        LockError: a requirement or a Python version is malformed, or Metaflow does not know a datastore.
    """
    spec = read_flow(options.flow, options.first_party, options.reading)
    python = parse_python(options.reading.python, "attribute `python`")
    runtime = _runtime(options, python)
    launcher = Environment(
        LAUNCHER,
        python,
        (
            parse_wanted(options.metaflow, "attribute `metaflow`"),
            *(parse_wanted(text, "attribute `launcher`") for text in options.launcher),
            *(parse_wanted(text, "mfbazel's Metaflow extension") for text in _EXTENSION_NEEDS),
        ),
        runtime,
        source="the launcher",
    )
    return spec.to_json(), [launcher, *(_environment(step, spec, python, runtime) for step in spec.steps)]


def _runtime(options: FlowOptions, python: str) -> tuple[Wanted, ...]:
    if options.runtime is None:
        return runtime_requirements(options.datastores, python)
    return tuple(parse_wanted(text, "attribute `runtime`") for text in options.runtime)


def _environment(step: Step, spec: FlowSpec, python: str, runtime: tuple[Wanted, ...]) -> Environment:
    if step.name == LAUNCHER:
        raise LockError(f"{spec.source}:{step.line}: step '{LAUNCHER}': the name is taken; rename the step")
    declared = step.python is not None and not step.disabled
    where = f"{spec.source}:{step.line}: step '{step.name}': `python`"
    wanted = tuple(
        parse_wanted(item.requirement, f"{item.file}:{item.line} (@{item.decorator})")
        for item in step.effective_declared
    )
    return Environment(
        step.name,
        parse_python(str(step.python), where) if declared else python,
        wanted,
        runtime,
        source=f"{spec.source} ({step.name})",
        gpu=bool(step.requests.gpu),
    )
