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
from mfbazel.audit.images import LayerAudit, audit_layers
from mfbazel.audit.layer_tables import bar, show_layers
from mfbazel.audit.report import audit, packages_of
from mfbazel.audit.tables import show
from mfbazel.console import make_console
from mfbazel.container.bazel import build_images
from mfbazel.lock.document import read
from mfbazel.policy import workspace_rules
from mfbazel.usage import show_target

_ATTRIBUTES = frozenset(["lock_dir", "label"])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        the exit code: 1 when an advisory applies that is not ignored, or something is in a layer that should not be
        there, else 0.

    Raises:
        MfbazelError: the lock, the advisories or an image cannot be read, or an option names a step or package that is
            not there.
    """
    arguments = _parser().parse_args(argv)
    command = f"bazel run {arguments.label}.lock"
    workspace = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", "."))
    directory = workspace / arguments.lock_dir
    lock = read(directory, command)
    if lock is None:
        raise AuditError(f"{arguments.lock_dir}: there is no lock to audit. Make it with `{command}`.")
    names = [canonicalize_name(name) for name in arguments.package]
    packages = packages_of(lock, arguments.step, names)
    report = audit(packages, _database(arguments.advisories, {item.name for item in packages}), dict(arguments.ignore))
    console = make_console()
    if not arguments.json:
        show(report, console, arguments.step or sorted(lock.environments), command)
    layers = _layers(arguments, workspace)
    if arguments.json:
        told = {"label": arguments.label, **report.to_json(), **({"layers": layers.to_json()} if layers else {})}
        print(json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False))
    elif layers:
        show_layers(layers, console)
    return 1 if report.vulnerable or (layers and any(item.counts for item in layers.findings)) else 0


def _layers(arguments: argparse.Namespace, workspace: Path) -> LayerAudit | None:
    """Read the layers of the images, where that is asked for; with ``--layers`` Bazel builds them first."""
    images: dict[str, Path] = dict(arguments.image)
    if arguments.layers:
        images |= build_images(
            arguments.label, workspace, os.environ, Path.cwd(), "Without --layers no image is needed."
        ).steps
    if not images:
        return None
    wanted = {step: layout for step, layout in images.items() if step in (arguments.step or images)}
    with bar() as progress:
        return audit_layers(wanted, workspace_rules(workspace).exempt.get("files", ()), progress)


def _database(paths: Sequence[Path], names: set[str]) -> Database | None:
    return read_database([_found(path) for path in paths], names) if paths else None


def _found(path: Path, option: str = "--advisories") -> Path:
    """Resolve ``path`` where the user typed it, else where Bazel put the files of the target."""
    for place in (Path(os.environ.get("BUILD_WORKING_DIRECTORY", ".")), Path()):
        if (place / path).exists():
            return place / path
    raise AuditError(f"{option} {path}: there is no such file or directory")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mfbazel.audit",
        description="List the licence of every locked package, advisories that apply, and what layers should not hold.",
        epilog="Exit code: 1 when an advisory applies that is not ignored, or a layer has what it should not, else 0.",
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
    parser.add_argument(
        "--layers",
        action="store_true",
        help="look at the layers of the step images, too, which are built: secrets, and files that are setuid or "
        "writable for all",
    )
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        type=_image,
        metavar="STEP=DIR",
        help="look at the layers of this OCI layout directory; repeatable",
    )
    show_target(parser, _ATTRIBUTES)
    return parser


def _image(text: str) -> tuple[str, Path]:
    step, _, layout = text.partition("=")
    if not step or not layout:
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form STEP=DIR")
    return step, _found(Path(layout), "--image")


def _ignore(text: str) -> tuple[str, str]:
    id, _, reason = text.partition("=")
    if not id.strip():
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form ID or ID=REASON")
    return id.strip(), reason.strip()
