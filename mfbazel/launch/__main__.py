"""``python -m mfbazel.launch``: start a flow, or make a virtual environment over unpacked wheels."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mfbazel.errors import run_front
from mfbazel.launch.flow import NO_VERIFY, FlowLaunch, own_options, prepare, read_list, working_directory
from mfbazel.launch.venv import create_venv, probe


def main(argv: Sequence[str] | None = None) -> int:
    """Run the front with ``argv``; starting a flow replaces this process by Metaflow's.

    Raises:
        LaunchError: see :func:`mfbazel.launch.prepare`, :func:`mfbazel.launch.create_venv`.
    """
    arguments = _parser().parse_args(argv)
    if arguments.front == "venv":
        print(create_venv(arguments.out, probe(arguments.python_interpreter), arguments.site))
        return 0
    return _start(arguments)


def _start(arguments: argparse.Namespace) -> int:
    """Become Metaflow's command line."""
    launch = FlowLaunch(
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
    command, environ = prepare(launch, os.environ)
    os.chdir(working_directory(os.environ))
    rest, ours = own_options(arguments.arguments)
    sys.stdout.flush()
    os.execve(command[0], [*command, *rest], {**environ, **ours})


def _import_roots(arguments: argparse.Namespace) -> tuple[Path, ...]:
    listed = read_list(arguments.import_roots, "list of import roots") if arguments.import_roots else ()
    return tuple(Path(root).absolute() for root in (*arguments.import_root, *listed))


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mfbazel.launch", description=__doc__)
    fronts = parser.add_subparsers(dest="front", required=True)
    venv = fronts.add_parser("venv", help="make a virtual environment over unpacked wheels; prints its interpreter")
    venv.add_argument("--python-interpreter", type=Path, default=Path(sys.executable), help="interpreter below it")
    venv.add_argument("--site", type=Path, action="append", default=[], help="an unpacked wheel (repeatable)")
    venv.add_argument("--out", type=Path, required=True, help="directory to make; left alone where it exists")
    flow = fronts.add_parser("flow", help="run Metaflow's command line on a flow")
    flow.add_argument("--flow", type=Path, required=True, help="the flow's file")
    flow.add_argument("--lock", type=Path, required=True, help="flow.json")
    flow.add_argument("--label", required=True, help="Bazel label of the flow's target")
    flow.add_argument("--sites", type=Path, required=True, help="JSON: environment -> directories of packages")
    flow.add_argument("--python-interpreter", type=Path, default=Path(sys.executable), help="interpreter below all")
    flow.add_argument(
        "--runfiles",
        type=Path,
        default=Path(os.environ.get("RUNFILES_DIR", ".")),
        help="directory that relative paths in JSON files start from (default: $RUNFILES_DIR)",
    )
    flow.add_argument(
        "--import-root", type=Path, action="append", default=[], help="root of first-party imports (repeatable)"
    )
    flow.add_argument("--first-party", type=Path, help="JSON: path in the code package -> file")
    flow.add_argument("--import-roots", type=Path, help="JSON: list of roots of first-party imports")
    flow.add_argument(
        "--config", action="append", default=[], metavar="NAME=FILE", help="file for a Config of the flow (repeatable)"
    )
    flow.add_argument(
        "--config-value", action="append", default=[], metavar="NAME=JSON", help="value for a Config (repeatable)"
    )
    flow.add_argument(
        "arguments",
        nargs=argparse.REMAINDER,
        help=f"--, then {NO_VERIFY} where registries are not to be asked for the images, and the arguments of Metaflow",
    )
    return parser


if __name__ == "__main__":
    run_front(main)
