"""The options that decide how a flow is read, shared by every command line that reads one."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mfbazel.analyze.options import WAYS, ReadOptions

READ_ATTRIBUTES = ("flow", "first_party", "python", "read", "config", "config_value", "conda_name", "project")
"""The names of the options, which ``metaflow_flow`` fills in."""


def add_read_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--flow``, ``--first-party``, ``--python`` and what makes up :class:`ReadOptions` to ``parser``."""
    group = parser.add_argument_group("reading the flow")
    group.add_argument("--flow", required=True, type=Path, metavar="FLOW.py")
    group.add_argument(
        "--first-party", action="append", default=[], type=Path, metavar="DIR", help="import root; repeatable"
    )
    group.add_argument("--python", metavar="X.Y", help="for steps that declare none (default: the running one)")
    group.add_argument("--read", choices=WAYS, default="auto", help="default: auto, statically where that can be")
    group.add_argument(
        "--config", action="append", default=[], type=pair, metavar="NAME=FILE", help="for a Config; repeatable"
    )
    group.add_argument(
        "--config-value", action="append", default=[], type=pair, metavar="NAME=JSON", help="for a Config; repeatable"
    )
    group.add_argument(
        "--conda-name",
        action="append",
        default=[],
        type=pair,
        metavar="NAME=DIST",
        help="distribution of a conda package, empty to leave it out; repeatable",
    )
    group.add_argument("--project", type=Path, metavar="pyproject.toml", help="whose dependencies every step gets")


def read_arguments(arguments: argparse.Namespace) -> tuple[Path, list[Path], ReadOptions]:
    """Return the arguments of :func:`mfbazel.analyze.read_flow` that ``arguments`` name.

    Paths are relative to the working directory where the flow is found from there. Bazel starts its executables among
    their runfiles, where nothing lies but what the target declares: so every target of a flow reads the same. A flow
    that is not found there, since no target declares it, is looked for in the workspace.
    """
    base = Path() if arguments.flow.is_file() else Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", "."))
    return base / arguments.flow, [base / root for root in arguments.first_party], _read_options(arguments, base)


def _read_options(arguments: argparse.Namespace, base: Path) -> ReadOptions:
    defaults = ReadOptions()
    return ReadOptions(
        reading=arguments.read,
        python=arguments.python or defaults.python,
        configs={name: base / file for name, file in arguments.config},
        config_values=dict(arguments.config_value),
        conda_names=dict(arguments.conda_name),
        project=base / arguments.project if arguments.project else None,
    )


def pair(text: str) -> tuple[str, str]:
    """Read ``NAME=VALUE``; a type of argparse."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form NAME=VALUE")
    return name, value
