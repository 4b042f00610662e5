"""``python -m mfbazel.container``: run a task, or a shell, in the image of a step."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mfbazel.container.engines import AUTO, ENGINES
from mfbazel.container.model import Plan
from mfbazel.container.shell import Shell, open_shell
from mfbazel.container.start import start
from mfbazel.container.supervise import end_like
from mfbazel.errors import run_front
from mfbazel.launch.arguments import add_flow_options, flow_launch
from mfbazel.usage import show_target


def main(argv: Sequence[str] | None = None) -> int:
    """Run the front with ``argv`` (default: of the process) and return the exit code.

    Raises:
        ContainerError: a container cannot be started here.
        LaunchError: see :func:`mfbazel.launch.prepare`.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # What follows the step is a command's, whatever it looks like.
    command: list[str] = []
    if "--" in words:
        words, command = words[: words.index("--")], words[words.index("--") + 1 :]
    parser = _parser()
    arguments = parser.parse_args(words)
    if arguments.front == "run":
        if not command:
            parser.error("there is no command: write it after `--`")
        end_like(start(Plan.from_json(arguments.plan), command, os.environ))
    end_like(
        open_shell(
            Shell(
                step=arguments.step,
                layouts={
                    step: Path(path).absolute() for step, path in (text.split("=", 1) for text in arguments.image)
                },
                launch=flow_launch(arguments),
                engine=arguments.engine,
                local=arguments.local,
                command=command,
            ),
            os.environ,
        )
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mfbazel.container", description=__doc__, fromfile_prefix_chars="@", allow_abbrev=False
    )
    fronts = parser.add_subparsers(dest="front", required=True)
    run = fronts.add_parser("run", help="run the command after -- in a planned container; exits as it does")
    run.add_argument("--plan", required=True, help="JSON: the container (mfbazel.container.Plan)")
    shell = fronts.add_parser(
        "shell",
        help="open a shell in the image of a step, or run the command after --",
        description="A shell with the packages of one step, and the flow's own code; or, after --, one command there. "
        "The working directory is this one; the exit code is the command's.",
        epilog="example: … -- train -- python -c 'import sklearn'",
        allow_abbrev=False,
    )
    shell.add_argument("step", help="a step of the flow")
    shell.add_argument(
        "--local", action="store_true", help="in the step's virtual environment on this machine, not in its image"
    )
    shell.add_argument("--engine", choices=(AUTO, *ENGINES), default=AUTO, help="what starts the container")
    shell.add_argument("--image", action="append", default=[], metavar="STEP=DIR", help="OCI layout (repeatable)")
    add_flow_options(shell)
    show_target(shell, _OF_THE_TARGET)
    return parser


_OF_THE_TARGET = (
    "image",
    "flow",
    "lock",
    "label",
    "sites",
    "python_interpreter",
    "runfiles",
    "import_root",
    "first_party",
    "import_roots",
    "config",
    "config_value",
)


if __name__ == "__main__":
    run_front(main)
