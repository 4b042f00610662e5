"""The command line: ``flow``, ``test``, ``imports``, ``environments`` and ``all``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mfbazel.lock.arguments import (
    FLOW_ATTRIBUTES,
    add_common_options,
    add_flow_options,
    add_resolve_options,
    flow_of,
    in_workspace,
    settings_of,
)
from mfbazel.lock.command import Shared, Task, check_allowed_packages, run
from mfbazel.lock.document import Lock, read
from mfbazel.lock.errors import LockError
from mfbazel.lock.flow import FlowOptions, read_flow_environments
from mfbazel.lock.imports import Packages, add_imports, check_imports, incomplete, parse_names, report, summary
from mfbazel.lock.model import Environment, Settings
from mfbazel.lock.repository.all_flows import add_all_options, lock_all
from mfbazel.lock.show import show_outcome
from mfbazel.lock.spec import read_spec
from mfbazel.lock.stale import check_flow, check_lock
from mfbazel.usage import show_target


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    Raises:
        mfbazel.errors.MfbazelError: what the user can act on.
    """
    arguments = make_parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    return run(arguments)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m mfbazel.lock", description=__doc__, fromfile_prefix_chars="@")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    flow = _command(commands, "flow", _lock_flow, "lock every step of a flow")
    add_flow_options(flow)
    add_resolve_options(flow)
    show_target(flow, FLOW_ATTRIBUTES)

    test = _command(commands, "test", _test, "compare a flow with its lock, without any network")
    add_flow_options(test)
    test.add_argument(
        "--stamp", type=Path, metavar="FILE", help="write it when the lock is up to date (for a build rule)"
    )

    imports = _command(
        commands, "imports", _imports, "check that what the code imports is declared, without any network"
    )
    add_flow_options(imports)
    imports.add_argument(
        "--stamp", type=Path, metavar="FILE", help="write it when every import is declared (for a build rule)"
    )

    environments = _command(commands, "environments", _lock_environments, "lock named environments of a JSON file")
    environments.add_argument("--spec", required=True, type=Path, metavar="FILE.json")
    add_resolve_options(environments)

    everything = commands.add_parser(
        "all", help="lock every flow of the repository", description="Lock every flow of the repository."
    )
    add_all_options(everything)
    everything.set_defaults(run=lock_all)
    return parser


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.", fromfile_prefix_chars="@"
    )
    add_common_options(parser)
    parser.set_defaults(run=run)
    return parser


def _lock_flow(arguments: argparse.Namespace) -> int:
    return _lock(arguments, settings_of(arguments, {}), flow=flow_of(arguments))


def _lock_environments(arguments: argparse.Namespace) -> int:
    spec = read_spec(in_workspace(arguments.spec))
    return _lock(arguments, settings_of(arguments, spec.options), environments=spec.environments)


def _lock(
    arguments: argparse.Namespace,
    settings: Settings,
    flow: FlowOptions | None = None,
    environments: Sequence[Environment] = (),
) -> int:
    begin = time.monotonic()
    write = not (arguments.check or arguments.diff)
    task = Task(in_workspace(arguments.lock_dir), settings, flow, environments, write, report=_progress)
    outcome = run(task, Shared(_progress))
    show_outcome(outcome, arguments.lock_dir if write else None, time.monotonic() - begin)
    return 1 if arguments.check and outcome.stale else 0


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _read_lock(arguments: argparse.Namespace, settings: Settings) -> Lock:
    lock = read(in_workspace(arguments.lock_dir), settings.command)
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
    settings = settings_of(arguments, {})
    options = flow_of(arguments)
    flow, environments = read_flow_environments(options)
    lock = _read_lock(arguments, settings)
    environments = _with_imports(options, flow, environments, lock)
    problems = [*check_flow(flow, environments, lock, settings), *check_lock(lock)]
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise LockError(f"the lock {arguments.lock_dir} is stale:\n{lines}\nRun `{settings.command}`.")
    check_allowed_packages(settings, lock)
    return _say(arguments, f"{arguments.lock_dir} is up to date: {len(environments)} environments")


def _imports(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments, {})
    options = flow_of(arguments)
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
