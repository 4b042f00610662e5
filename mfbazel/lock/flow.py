"""From a flow's declarations to environments: one per step, and the launcher's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mfbazel.analyze import FlowSpec, ReadOptions, Step, read_flow
from mfbazel.lock.errors import LockError
from mfbazel.lock.model import LAUNCHER, Environment, Wanted, parse_python, parse_wanted

DEFAULT_METAFLOW = "metaflow>=2.19.17"
"""The oldest Metaflow that the extension works with."""

# What mfbazel's Metaflow extension imports where Metaflow launches.
_EXTENSION_NEEDS = ("packaging",)

_DEFAULT_RUNTIME = ("boto3", "requests")

INFER = ("off", "check", "add")
"""What the packages that the code imports and nobody declares mean: nothing, an error, or requirements."""


@dataclass(frozen=True)
class FlowOptions:
    """The options of a flow's lock, named as the attributes of ``metaflow_flow``. ``runtime``: ``None``
    asks Metaflow."""

    flow: Path
    first_party: Sequence[Path]
    reading: ReadOptions
    metaflow: str = DEFAULT_METAFLOW
    launcher: Sequence[str] = ()
    runtime: Sequence[str] | None = None
    infer: str = "check"
    imports: Mapping[str, str] = field(default_factory=dict)


def runtime_requirements() -> list[str]:
    """Return what Metaflow needs in an image with the S3 datastore: as the installed Metaflow says, else a
    fixed list."""
    try:
        from metaflow.metaflow_config import get_pinned_conda_libs
    except ImportError:
        return list(_DEFAULT_RUNTIME)
    return sorted(get_pinned_conda_libs(ReadOptions().python, "s3"))


def read_flow_environments(options: FlowOptions) -> tuple[dict[str, Any], list[Environment]]:
    """Read the flow; return the flow part of the contract and the environments, the launcher's first.

    Raises:
        mfbazel.analyze.AnalyzeError: the flow cannot be read.
        LockError: a requirement or a Python version is malformed.
    """
    spec = read_flow(options.flow, options.first_party, options.reading)
    python = parse_python(options.reading.python, "attribute `python`")
    texts = runtime_requirements() if options.runtime is None else options.runtime
    runtime = tuple(parse_wanted(text, "attribute `runtime`") for text in texts)
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
