"""The command ``flow-spec``: what Metaflow knows of a flow, for the tools that read flows."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from metaflow import lint
from metaflow._vendor import click

from .bazel_environment import BazelEnvironment
from .bazel_errors import BazelException
from .bazel_flow_spec import describe


@click.group()  # type: ignore[untyped-decorator]
def cli() -> None:
    """Hold the command."""


@cli.command("flow-spec", hidden=True, help="Write what Metaflow knows of the flow, for mfbazel's own use.")  # type: ignore[untyped-decorator]
@click.option("--output", required=True, type=click.Path(dir_okay=False), help="JSON file to write.")  # type: ignore[untyped-decorator]
@click.pass_obj  # type: ignore[untyped-decorator]
def flow_spec(state: Any, output: str) -> None:
    """Check the flow's graph, and write what :func:`~.bazel_flow_spec.describe` says of it to ``output``.

    Raises:
        BazelException: another environment than ``bazel`` is chosen.
    """
    if state.environment.TYPE != BazelEnvironment.TYPE:
        raise BazelException("flow-spec reads flows under --environment=bazel.")
    lint.linter.run_checks(state.graph)
    write(describe(state.flow, state.graph), Path(output))


def write(spec: Any, path: Path) -> None:
    """Write ``spec`` beside ``path`` and rename it."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    beside.write_text(json.dumps(spec, indent=1), encoding="utf-8")
    beside.replace(path)
