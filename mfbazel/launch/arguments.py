"""What the rule ``metaflow_flow`` tells of a flow, as options of a command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mfbazel.launch.flow import FlowLaunch, read_list


def add_flow_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that :func:`flow_launch` reads."""
    parser.add_argument("--flow", type=Path, required=True, help="the flow's file")
    parser.add_argument("--lock", type=Path, required=True, help="flow.json")
    parser.add_argument("--label", required=True, help="Bazel label of the flow's target")
    parser.add_argument("--sites", type=Path, required=True, help="JSON: environment -> directories of packages")
    parser.add_argument("--python-interpreter", type=Path, default=Path(sys.executable), help="interpreter below all")
    parser.add_argument(
        "--runfiles",
        type=Path,
        default=Path(os.environ.get("RUNFILES_DIR", ".")),
        help="directory that relative paths in JSON files start from (default: $RUNFILES_DIR)",
    )
    parser.add_argument(
        "--import-root", type=Path, action="append", default=[], help="root of first-party imports (repeatable)"
    )
    parser.add_argument("--first-party", type=Path, help="JSON: path in the code package -> file")
    parser.add_argument("--import-roots", type=Path, help="JSON: list of roots of first-party imports")
    parser.add_argument(
        "--config", action="append", default=[], metavar="NAME=FILE", help="file for a Config of the flow (repeatable)"
    )
    parser.add_argument(
        "--config-value", action="append", default=[], metavar="NAME=JSON", help="value for a Config (repeatable)"
    )


def flow_launch(arguments: argparse.Namespace) -> FlowLaunch:
    """Return what the options of :func:`add_flow_options` say.

    Raises:
        LaunchError: the list of import roots cannot be read.
    """
    return FlowLaunch(
        flow=arguments.flow.absolute(),
        lock=arguments.lock.absolute(),
        label=arguments.label,
        sites=arguments.sites.absolute(),
        python=arguments.python_interpreter,
        runfiles=arguments.runfiles.absolute(),
        import_roots=_import_roots(arguments),
        configs=_pairs(arguments.config),
        config_values=_pairs(arguments.config_value),
        first_party=arguments.first_party and arguments.first_party.absolute(),
    )


def _import_roots(arguments: argparse.Namespace) -> tuple[Path, ...]:
    listed = read_list(arguments.import_roots, "list of import roots") if arguments.import_roots else ()
    return tuple(Path(root).absolute() for root in (*arguments.import_root, *listed))


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    return {name: value for name, _, value in (text.partition("=") for text in texts)}
