"""The command line: ``wheel`` builds one wheel from one source, ``check`` compares one with its hash."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from mfbazel.build.errors import BuildError
from mfbazel.build.pep517 import Recipe, build_wheel, check_built
from mfbazel.wheel.fetch import sha256_of


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    Raises:
        BuildError: the wheel cannot be built, or is not the one that is expected.
    """
    options = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], None] = options.run
    run(options)
    return 0


def _wheel(options: argparse.Namespace) -> None:
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


def _check(options: argparse.Namespace) -> None:
    actual = sha256_of(options.wheel)
    if actual != options.sha256:
        raise BuildError(
            f"{options.wheel} is not the file that was locked\n"
            f"  locked:   sha256:{options.sha256}\n"
            f"  it is now sha256:{actual}\n"
            "If that is meant to be, make the lock anew with the `.lock` target of the flow."
        )
    # No hard link: what builds makes its outputs read-only.
    with tempfile.TemporaryDirectory(prefix=f".{options.output.name}.", dir=options.output.parent) as directory:
        beside = Path(directory) / options.output.name
        shutil.copyfile(options.wheel, beside)
        beside.replace(options.output)


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
    wheel.set_defaults(run=_wheel)
    check = commands.add_parser("check", help="copy a wheel that has a hash")
    check.add_argument("--wheel", required=True, type=Path, metavar="FILE.whl")
    check.add_argument("--sha256", required=True, metavar="HEX", help="the hash that it must have")
    check.add_argument("--output", required=True, type=Path, metavar="FILE.whl")
    check.set_defaults(run=_check)
    return parser
