"""The command line: a lock and advisories in, an audit out."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from packaging.utils import canonicalize_name

from mfbazel.audit.database import Database, read_database
from mfbazel.audit.errors import AuditError
from mfbazel.audit.report import audit, packages_of
from mfbazel.audit.tables import show
from mfbazel.console import make_console
from mfbazel.lock.document import read
from mfbazel.usage import show_target

_ATTRIBUTES = frozenset(["lock_dir", "label"])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 1 when an advisory applies that is not ignored, else 0.

    Raises:
        MfbazelError: the lock or the advisories cannot be read, or an option names a step or package that is not there.
    """
    arguments = _parser().parse_args(argv)
    command = f"bazel run {arguments.label}.lock"
    directory = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", ".")) / arguments.lock_dir
    lock = read(directory, command)
    if lock is None:
        raise AuditError(f"{arguments.lock_dir}: there is no lock to audit. Make it with `{command}`.")
    names = [canonicalize_name(name) for name in arguments.package]
    packages = packages_of(lock, arguments.step, names)
    report = audit(packages, _database(arguments.advisories, {item.name for item in packages}), dict(arguments.ignore))
    if arguments.json:
        print(json.dumps({"label": arguments.label, **report.to_json()}, indent=2, sort_keys=True, ensure_ascii=False))
    else:
        show(report, make_console(), arguments.step or sorted(lock.environments), command)
    return 1 if report.vulnerable else 0


def _database(paths: Sequence[Path], names: set[str]) -> Database | None:
    return read_database([_found(path) for path in paths], names) if paths else None


def _found(path: Path) -> Path:
    """Resolve ``path`` where the user typed it, else where Bazel put the files of the target."""
    for place in (Path(os.environ.get("BUILD_WORKING_DIRECTORY", ".")), Path()):
        if (place / path).exists():
            return place / path
    raise AuditError(f"--advisories {path}: there is no such file or directory")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mfbazel.audit",
        description="List the licence of every locked package, and the advisories that apply to it.",
        epilog="Exit code: 1 when an advisory applies that is not ignored, else 0.",
        fromfile_prefix_chars="@",
    )
    parser.add_argument("--lock-dir", required=True, type=Path, metavar="DIR", help="the lock directory")
    parser.add_argument("--label", required=True, metavar="//PKG:NAME", help="the flow's target")
    parser.add_argument(
        "--advisories",
        action="append",
        default=[],
        type=Path,
        metavar="PATH",
        help="advisories in the OSV format: a file (.json, .jsonl), a directory of such, or a .zip as osv.dev exports "
        "them; repeatable",
    )
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        type=_ignore,
        metavar="ID[=REASON]",
        help="an advisory that does not count, by its id or an alias; repeatable",
    )
    parser.add_argument("--step", action="append", default=[], metavar="NAME", help="only this step; repeatable")
    parser.add_argument("--package", action="append", default=[], metavar="NAME", help="only this one; repeatable")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    show_target(parser, _ATTRIBUTES)
    return parser


def _ignore(text: str) -> tuple[str, str]:
    id, _, reason = text.partition("=")
    if not id.strip():
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form ID or ID=REASON")
    return id.strip(), reason.strip()
