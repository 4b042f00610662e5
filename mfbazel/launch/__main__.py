"""``python -m mfbazel.launch``: start a flow, or make a virtual environment over unpacked wheels."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mfbazel.errors import run_front
from mfbazel.launch.arguments import add_flow_options, flow_launch
from mfbazel.launch.flow import NO_VERIFY, own_options, prepare, working_directory
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
    command, environ = prepare(flow_launch(arguments), os.environ)
    os.chdir(working_directory(os.environ))
    rest, ours = own_options(arguments.arguments)
    sys.stdout.flush()
    os.execve(command[0], [*command, *rest], {**environ, **ours})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mfbazel.launch", description=__doc__)
    fronts = parser.add_subparsers(dest="front", required=True)
    venv = fronts.add_parser("venv", help="make a virtual environment over unpacked wheels; prints its interpreter")
    venv.add_argument("--python-interpreter", type=Path, default=Path(sys.executable), help="interpreter below it")
    venv.add_argument("--site", type=Path, action="append", default=[], help="an unpacked wheel (repeatable)")
    venv.add_argument("--out", type=Path, required=True, help="directory to make; left alone where it exists")
    flow = fronts.add_parser("flow", help="run Metaflow's command line on a flow")
    add_flow_options(flow)
    flow.add_argument(
        "arguments",
        nargs=argparse.REMAINDER,
        help=f"--, then {NO_VERIFY} where registries are not to be asked for the images, and the arguments of Metaflow",
    )
    return parser


if __name__ == "__main__":
    run_front(main)
