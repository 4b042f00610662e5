"""The options that decide how a flow is read, shared by every command line that reads one."""

from __future__ import annotations

import argparse
from collections.abc import Callable
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


def read_options(arguments: argparse.Namespace, resolve: Callable[[Path], Path] = Path) -> ReadOptions:
    """Return the options in ``arguments``; ``resolve`` makes a path of the command line one that can be opened."""
    defaults = ReadOptions()
    return ReadOptions(
        reading=arguments.read,
        python=arguments.python or defaults.python,
        configs={name: resolve(Path(file)) for name, file in arguments.config},
        config_values=dict(arguments.config_value),
        conda_names=dict(arguments.conda_name),
        project=resolve(arguments.project) if arguments.project else None,
    )


def pair(text: str) -> tuple[str, str]:
    """Read ``NAME=VALUE``; a type of argparse."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form NAME=VALUE")
    return name, value
