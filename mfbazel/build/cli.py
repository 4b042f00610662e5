"""The command line: ``wheel`` builds one wheel from one source."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mfbazel.build.pep517 import Recipe, build_wheel, check_built


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    Raises:
        BuildError: the wheel cannot be built, or is not the one that is expected.
    """
    options = _parser().parse_args(argv)
    recipe = Recipe(
        options.source, tuple(options.requirement), f"{options.name} {options.version}", options.subdirectory
    )
    output: Path = options.output
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as directory:
        built = build_wheel(recipe, Path(directory))
        check_built(built, options.name, options.version, output.name, options.sha256)
        built.path.replace(output)
    if not options.sha256:
        print(f"{built.sha256}  {output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mfbazel.build", description=__doc__, fromfile_prefix_chars="@")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    wheel = commands.add_parser("wheel", help="build a wheel, without network")
    wheel.add_argument("--source", required=True, type=Path, metavar="ARCHIVE", help="sdist, or tar of a commit")
    wheel.add_argument("--subdirectory", default="", metavar="DIR", help="where in the source the project lies")
    wheel.add_argument("--name", required=True, metavar="DIST", help="the distribution that it must be")
    wheel.add_argument("--version", required=True)
    wheel.add_argument("--sha256", default="", metavar="HEX", help="the hash that the wheel must have")
    wheel.add_argument(
        "--requirement", action="append", default=[], type=Path, metavar="WHEEL", help="build requirement; repeatable"
    )
    wheel.add_argument("--output", required=True, type=Path, metavar="FILE.whl", help="with the name it must have")
    return parser
