"""The command line: ``flow``, ``test``, ``imports`` and ``environments``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from mfbazel.analyze.arguments import READ_ATTRIBUTES, add_read_arguments, pair, read_arguments
from mfbazel.console import make_console
from mfbazel.errors import MfbazelError
from mfbazel.lock.changes import changes
from mfbazel.lock.document import Lock, build, owned, read
from mfbazel.lock.errors import LockError
from mfbazel.lock.flow import DEFAULT_METAFLOW, INFER, FlowOptions, read_flow_environments
from mfbazel.lock.imports import (
    Packages,
    add_imports,
    check_imports,
    incomplete,
    lock_with_imports,
    parse_names,
    report,
    summary,
)
from mfbazel.lock.model import Environment, LockedEnvironment, Settings
from mfbazel.lock.modules import Modules
from mfbazel.lock.resolve import RESOLVERS, Locker, resolve_platforms
from mfbazel.lock.sizes import Sizes
from mfbazel.lock.spec import read_spec
from mfbazel.lock.stale import check_flow, check_lock
from mfbazel.lock.web import Web
from mfbazel.lock.writer import write_directory
from mfbazel.usage import show_target

_DEFAULT_PLATFORMS = ("linux/amd64",)
_DEFAULT_GLIBC = "2.28"
# Options that metaflow_flow fills in.
_ATTRIBUTES = frozenset(
    [
        *READ_ATTRIBUTES,
        "lock_dir",
        "label",
        "platform",
        "glibc",
        "resolver",
        "metaflow",
        "launcher",
        "runtime",
        "infer",
        "imports",
    ]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    Raises:
        MfbazelError: what the user can act on.
    """
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    return run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mfbazel.lock", description=__doc__, fromfile_prefix_chars="@")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    flow = commands.add_parser("flow", help="lock every step of a flow")
    _common_options(flow)
    _flow_options(flow)
    _resolve_options(flow)
    show_target(flow, _ATTRIBUTES)
    flow.set_defaults(run=_lock_flow)

    test = commands.add_parser("test", help="compare a flow with its lock, without any network")
    _common_options(test)
    _flow_options(test)
    test.add_argument(
        "--stamp", type=Path, metavar="FILE", help="write it when the lock is up to date (for a build rule)"
    )
    test.set_defaults(run=_test)

    imports = commands.add_parser("imports", help="check that what the code imports is declared, without any network")
    _common_options(imports)
    _flow_options(imports)
    imports.add_argument(
        "--stamp", type=Path, metavar="FILE", help="write it when every import is declared (for a build rule)"
    )
    imports.set_defaults(run=_imports)

    environments = commands.add_parser("environments", help="lock named environments of a JSON file")
    _common_options(environments)
    environments.add_argument("--spec", required=True, type=Path, metavar="FILE.json")
    _resolve_options(environments)
    environments.set_defaults(run=_lock_environments)
    return parser


def _common_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lock-dir", required=True, type=Path, metavar="DIR", help="the lock directory")
    parser.add_argument("--label", required=True, metavar="//PKG:NAME", help="the target without `.lock`")
    platforms = ", ".join(_DEFAULT_PLATFORMS)
    parser.add_argument("--platform", action="append", metavar="OS/ARCH", help=f"repeatable (default: {platforms})")
    parser.add_argument("--glibc", metavar="2.Y", help=f"oldest C library of the images (default: {_DEFAULT_GLIBC})")
    parser.add_argument("--resolver", choices=RESOLVERS, help="default: uv")


def _flow_options(parser: argparse.ArgumentParser) -> None:
    add_read_arguments(parser)
    parser.add_argument("--metaflow", default=DEFAULT_METAFLOW, metavar="REQ", help="what the launcher installs")
    parser.add_argument(
        "--launcher", action="append", default=[], metavar="REQ", help="what launching needs besides; repeatable"
    )
    parser.add_argument("--runtime", action="append", metavar="REQ", help="what Metaflow needs in images; repeatable")
    parser.add_argument(
        "--infer",
        choices=INFER,
        default="check",
        help="what becomes of imported packages that nobody declares: nothing, an error of `imports` (default: check), "
        "or a requirement of the lock",
    )
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        type=pair,
        metavar="NAME=DIST",
        help="distribution of an import name, empty for what the image has anyway; repeatable",
    )


def _resolve_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if anything would change")
    parser.add_argument("--upgrade", action="store_true", help="do not prefer the locked versions")
    parser.add_argument("--upgrade-package", action="append", default=[], metavar="NAME", help="repeatable")


def _in_workspace(path: Path) -> Path:
    """Resolve a relative ``path`` against the workspace when ``bazel run`` started this."""
    return Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", ".")) / path


def _settings(arguments: argparse.Namespace, defaults: Mapping[str, Any]) -> Settings:
    platforms = arguments.platform or defaults.get("platforms") or _DEFAULT_PLATFORMS
    return Settings(
        label=arguments.label,
        platforms=resolve_platforms(platforms),
        glibc=arguments.glibc or str(defaults.get("glibc", _DEFAULT_GLIBC)),
        resolver=arguments.resolver or str(defaults.get("resolver", RESOLVERS[0])),
        upgrade=getattr(arguments, "upgrade", False),
        upgrade_packages=tuple(getattr(arguments, "upgrade_package", ())),
    )


def _flow(arguments: argparse.Namespace) -> FlowOptions:
    flow, first_party, reading = read_arguments(arguments)
    return FlowOptions(
        flow=flow,
        first_party=first_party,
        reading=reading,
        metaflow=arguments.metaflow,
        launcher=arguments.launcher,
        runtime=None if arguments.runtime is None else tuple(arguments.runtime),
        infer=arguments.infer,
        imports=dict(arguments.imports),
    )


def _lock_flow(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments, {})
    options = _flow(arguments)
    names = parse_names(options.imports)
    flow, environments = read_flow_environments(options)

    def lock(locker: Locker) -> list[LockedEnvironment]:
        return lock_with_imports(locker, flow, environments, names)

    return _lock(arguments, settings, flow, environments, lock if options.infer == "add" else None)


def _lock_environments(arguments: argparse.Namespace) -> int:
    spec = read_spec(_in_workspace(arguments.spec))
    return _lock(arguments, _settings(arguments, spec.options), None, spec.environments)


def _read_lock(arguments: argparse.Namespace, settings: Settings) -> Lock:
    lock = read(_in_workspace(arguments.lock_dir), settings.command)
    if lock is None:
        raise LockError(f"{arguments.lock_dir}: there is no lock. Make it with `{settings.command}`.")
    return lock


def _with_imports(
    options: FlowOptions, flow: Mapping[str, Any], environments: Sequence[Environment], lock: Lock
) -> list[Environment]:
    """Return ``environments`` with what is added to them for imports, as far as ``lock`` tells."""
    if options.infer != "add":
        return list(environments)
    packages = {environment.name: Packages.of_lock(lock, environment.name) for environment in environments}
    return add_imports(flow, environments, packages, parse_names(options.imports))


def _test(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments, {})
    options = _flow(arguments)
    flow, environments = read_flow_environments(options)
    lock = _read_lock(arguments, settings)
    environments = _with_imports(options, flow, environments, lock)
    problems = [*check_flow(flow, environments, lock, settings), *check_lock(lock)]
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise LockError(f"the lock {arguments.lock_dir} is stale:\n{lines}\nRun `{settings.command}`.")
    return _say(arguments, f"{arguments.lock_dir} is up to date: {len(environments)} environments")


def _imports(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments, {})
    options = _flow(arguments)
    names = parse_names(options.imports)
    flow, environments = read_flow_environments(options)
    if options.infer == "off":
        return _say(arguments, 'the imports are not checked: `infer` is "off"')
    lock = _read_lock(arguments, settings)
    found = check_imports(flow, _with_imports(options, flow, environments, lock), lock, names)
    note = incomplete(lock, settings.command)
    if found:
        text = report(flow, found, lock)
        raise LockError("\n".join([f"{arguments.label}: imports that no declaration accounts for:", text, *note]))
    return _say(arguments, "\n".join([summary(flow), *note]))


def _say(arguments: argparse.Namespace, text: str) -> int:
    """Write the stamp of a build rule, or tell a person."""
    if arguments.stamp:
        arguments.stamp.write_text(f"{text}\n", encoding="utf-8")
    else:
        print(text)
    return 0


def _lock(
    arguments: argparse.Namespace,
    settings: Settings,
    flow: dict[str, Any] | None,
    environments: Sequence[Environment],
    lock: Callable[[Locker], list[LockedEnvironment]] | None = None,
) -> int:
    """Lock ``environments`` (by ``lock``, when it is given) and write the lock, or say what would change."""
    begin = time.monotonic()
    directory = _in_workspace(arguments.lock_dir)
    old = _old_lock(directory, settings)
    web = Web()
    locker = Locker(
        settings,
        previous={item.name: old.versions(item.name) for item in environments} if old else {},
        sizes=Sizes(old.sizes() if old else {}, web=web),
        # Only a flow's imports are compared with wheels.
        modules=Modules(old.modules() if old else {}, _progress, web) if flow else None,
        report=_progress,
    )
    new = build(flow, lock(locker) if lock else locker.lock(environments), settings)
    changed = changes(old, new)
    if not arguments.check:
        written = write_directory(directory, new.files(), owned(new.files(), old))
        changed = changed or (["repaired the files"] if written else [])
    _show(new, changed, arguments, time.monotonic() - begin)
    return 1 if arguments.check and changed else 0


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _old_lock(directory: Path, settings: Settings) -> Lock | None:
    """Read the lock that is replaced; one that cannot be read is no obstacle, but is said aloud."""
    try:
        return read(directory, settings.command)
    except MfbazelError as error:
        print(f"warning: the old lock is ignored: {error}", file=sys.stderr)
        return None


def _show(lock: Lock, changed: Sequence[str], arguments: argparse.Namespace, seconds: float) -> None:
    console = make_console()
    table = Table(box=None, pad_edge=False)
    for title in ("environment", "Python", "requires", "packages", "MB"):
        table.add_column(title, justify="right" if title in ("packages", "MB") else "left")
    for name, environment in sorted(lock.environments.items()):
        shas = {sha for found in environment["wheels"].values() for sha in found}
        size = sum(lock.document["wheels"][sha]["size"] for sha in shas)
        requires = ", ".join(environment["requirements"]) or "—"
        table.add_row(
            Text(name), environment["python"], Text(requires), str(len(lock.versions(name))), f"{size / 1e6:.1f}"
        )
    console.print(table)
    state = "would change" if arguments.check else "changed"
    for line in changed:
        console.print(f"{state}: {line}", markup=False)
    if not changed:
        console.print("nothing to change")
    elif not arguments.check:
        console.print(f"wrote {arguments.lock_dir}", markup=False)
    console.print(f"{seconds:.1f} s")
