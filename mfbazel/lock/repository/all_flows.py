"""Locking every flow of a repository at once: ``bazel run //:lock_all``.

Flows are locked several at a time. What two of them ask alike is resolved once, and what is known of a wheel counts for
all. One flow's error does not stop the others.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from rich.console import Console
from rich.text import Text

from mfbazel.console import make_console
from mfbazel.errors import MfbazelError
from mfbazel.lock.arguments import (
    add_common_options,
    add_flow_options,
    add_resolve_options,
    flow_of,
    in_workspace,
    settings_of,
)
from mfbazel.lock.changes import Change
from mfbazel.lock.command import Outcome, Shared, Task, check_upgraded, run
from mfbazel.lock.errors import LockError
from mfbazel.lock.model import parse_wanted
from mfbazel.lock.repository.bazel import Bazel, FlowFiles
from mfbazel.lock.repository.locks import find_locks, read_locks
from mfbazel.lock.repository.report import diverging_names, make_report
from mfbazel.lock.repository.report_view import constraints_file, show_report
from mfbazel.lock.resolver.scratch import scratch
from mfbazel.usage import show_target

EVERYTHING = "//..."
_AT_ONCE = max(4, os.cpu_count() or 1)
_SHOWN_FLOWS = 3
# Options NAME=FILE.
_CONFIGS = ("config",)
_WHEELS = ("wheel", "wheel_target")


@dataclass(frozen=True)
class Choices:
    """What a person chose for all flows; ``options`` are those of a flow's own lock command."""

    write: bool = True
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """What came of one flow: an ``outcome``, or an ``error``, which is a complete message."""

    label: str
    outcome: Outcome | None = None
    error: str | None = None

    @property
    def state(self) -> str:
        """What a line of progress says of it."""
        if self.outcome is None:
            return "failed"
        count = len(self.outcome.changes)
        return f"{count} {'change' if count == 1 else 'changes'}" if count else "unchanged"


@dataclass
class Everything:
    """Locks many flows.

    Attributes:
        choices: what holds for all of them.
        shared: resolutions and what is known of wheels.
        jobs: how many flows are locked at once.
        done: called with every result as it comes.
    """

    choices: Choices = field(default_factory=Choices)
    shared: Shared = field(default_factory=Shared)
    jobs: int = _AT_ONCE
    done: Callable[[Result], None] = lambda _result: None

    def lock(self, flows: Sequence[FlowFiles]) -> list[Result]:
        """Lock ``flows``; return a result for each, in the order of ``flows``."""
        with scratch() as directory:
            pool = ThreadPoolExecutor(self.jobs)
            try:
                futures = {
                    pool.submit(self._lock, flow, directory.resolve() / str(number)): number
                    for number, flow in enumerate(flows)
                }
                results: dict[int, Result] = {}
                for future in as_completed(futures):
                    results[futures[future]] = future.result()
                    self.done(future.result())
            except BaseException:
                # What runs is not waited for, and writes nothing any more.
                self.shared.stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            pool.shutdown()
        return [results[number] for number in range(len(flows))]

    def _lock(self, flow: FlowFiles, directory: Path) -> Result:
        try:
            return Result(flow.label, run(self._task(flow, flow.link(directory)), self.shared))
        except MfbazelError as error:
            return Result(flow.label, error=str(error).replace(f"{directory / 'workspace'}/", ""))
        except OSError as error:
            return Result(flow.label, error=f"cannot read or write: {error}")

    def _task(self, flow: FlowFiles, base: Path) -> Task:
        words = flow.arguments.read_text(encoding="utf-8").splitlines()
        arguments = _from(base, _flow_parser().parse_args([*words, *self.choices.options]), flow)

        def report(line: str) -> None:
            if line.startswith("warning"):
                self.shared.report(f"{flow.label}: {line}")

        return Task(
            in_workspace(arguments.lock_dir),
            settings_of(arguments, {}),
            flow_of(arguments),
            write=self.choices.write,
            alone=False,
            report=report,
        )


def _from(base: Path, arguments: argparse.Namespace, flow: FlowFiles) -> argparse.Namespace:
    """Return ``arguments`` with the files that are read named from ``base``: a thread has no working directory.

    Wheels are named by where they lie: flows that name the same one ask the same.
    """

    def read(value: Any) -> Any:
        if isinstance(value, Path):
            return base / value
        return [read(item) for item in value] if isinstance(value, list) else value

    options = {name: read(value) for name, value in vars(arguments).items() if name != "lock_dir"}
    for name in _CONFIGS:
        options[name] = [(key, str(base / path)) for key, path in options[name]]
    for name in _WHEELS:
        options[name] = [(key, str(flow.files.get(PurePosixPath(path), base / path))) for key, path in options[name]]
    return argparse.Namespace(**options, lock_dir=arguments.lock_dir)


class _FlowParser(argparse.ArgumentParser):
    """The options of one flow's lock; what is wrong with them is that flow's error."""

    def error(self, message: str) -> NoReturn:
        raise LockError(f"cannot read the options of the flow: {message}")


def _flow_parser() -> argparse.ArgumentParser:
    parser = _FlowParser(add_help=False)
    add_common_options(parser)
    add_flow_options(parser)
    add_resolve_options(parser)
    return parser


def add_all_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``//:lock_all``."""
    parser.add_argument(
        "patterns",
        nargs="*",
        metavar="PATTERN",
        help=f"flows, as Bazel's target patterns: //flows/..., //flows:my_flow (default: {EVERYTHING})",
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if anything would change")
    parser.add_argument("--diff", action="store_true", help="write nothing; say what would change, flow by flow")
    parser.add_argument(
        "--report",
        action="store_true",
        help="lock nothing; say from the locks alone which packages stand at several versions, and what aligning them "
        "would save in layers",
    )
    parser.add_argument("--upgrade", action="store_true", help="do not prefer the locked versions")
    parser.add_argument(
        "--upgrade-package",
        action="append",
        default=[],
        metavar="REQ",
        help="do not prefer the locked version of this package; with a version (`pandas<3.2`) within that; repeatable",
    )
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    parser.add_argument(
        "--jobs", type=_positive, default=_AT_ONCE, metavar="N", help="flows locked at once (default: %(default)s)"
    )
    parser.add_argument("--bazel", metavar="COMMAND", help="how to call Bazel (default: as it was called)")
    show_target(parser, ())


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 1")
    return int(text)


def lock_all(arguments: argparse.Namespace) -> int:
    """Do what ``arguments`` (see :func:`add_all_options`) say; return the exit code.

    Raises:
        LockError: flows could not be found, or some could not be locked; the others are.
    """
    patterns = arguments.patterns or [EVERYTHING]
    if arguments.json and not arguments.report:
        raise LockError("--json goes with --report")
    if arguments.report and (arguments.check or arguments.diff):
        raise LockError("--report locks nothing: it goes with neither --check nor --diff")
    return _report(arguments, patterns) if arguments.report else _lock(arguments, patterns)


def _report(arguments: argparse.Namespace, patterns: Sequence[str]) -> int:
    workspace = in_workspace(Path()).resolve()
    locks = read_locks(workspace, patterns, Path(os.environ.get("BUILD_WORKING_DIRECTORY", workspace)))
    report = make_report(locks.found)
    if arguments.json:
        print(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
    else:
        show_report(report, make_console(), constraints_file(workspace))
    _raise_problems([f"{label}: {text}" for label, text in locks.problems.items()], "not in the report")
    return 0


def _lock(arguments: argparse.Namespace, patterns: Sequence[str]) -> int:
    begin = time.monotonic()
    upgraded = [parse_wanted(text, "--upgrade-package").name for text in arguments.upgrade_package]
    screen = Console(stderr=True, highlight=False, soft_wrap=True)
    screen.print(f"finding the flows of {', '.join(patterns)}", markup=False)
    found = Bazel.find(arguments.bazel).find_flows(patterns)
    shared = Shared(lambda line: screen.print(line, markup=False))
    options = ["--upgrade"] if arguments.upgrade else []
    options += [word for name in arguments.upgrade_package for word in ("--upgrade-package", name)]
    write = not (arguments.check or arguments.diff)
    everything = Everything(
        Choices(write, tuple(options)), shared, arguments.jobs, _Progress(screen, len(found.flows)).show
    )
    try:
        results = everything.lock(found.flows)
    except KeyboardInterrupt:
        screen.print("interrupted")
        sys.stderr.flush()
        os._exit(130)  # an ordinary end waits for the flows that are being locked
    console = make_console()
    _show_changes(results, console, each=arguments.diff, write=write)
    _show_summary(results, len(found.unbuilt), console, shared.resolutions.made, time.monotonic() - begin, write=write)
    if arguments.patterns in ([], [EVERYTHING]) and not found.problems:
        _show_orphans(results, screen)
    errors = [f"{result.label}: {result.error}" for result in results if result.error]
    _raise_problems([*found.problems, *errors], "not locked")
    check_upgraded(upgraded, [result.outcome.lock for result in results if result.outcome])
    return 1 if arguments.check and any(result.outcome and result.outcome.stale for result in results) else 0


_STYLES = {"failed": "red", "unchanged": "dim"}


@dataclass
class _Progress:
    """Counts the flows that are done; colours are for terminals."""

    screen: Console
    total: int
    count: int = 0

    def show(self, result: Result) -> None:
        self.count += 1
        line = Text(f"[{self.count}/{self.total}] {result.label}: ")
        self.screen.print(line.append(result.state, _STYLES.get(result.state, "yellow")))


def _show_changes(results: Sequence[Result], console: Console, *, each: bool, write: bool) -> None:
    """Say what changes: flow by flow, or each change once with the flows that it is in."""
    changed = {result.label: result.outcome.changes for result in results if result.outcome and result.outcome.changes}
    if each:
        for label, changes in changed.items():
            console.print("\n".join([label, *(f"  {change}" for change in changes)]), markup=False)
        return
    flows: dict[str, list[str]] = {}
    for label, changes in changed.items():
        for text in dict.fromkeys(_summed_up(change) for change in changes):
            flows.setdefault(text, []).append(label)
    state = "changed" if write else "would change"
    for text, labels in flows.items():
        console.print(f"{state}: {text}: {_some(labels)}", markup=False)


def _summed_up(change: Change) -> str:
    return "new environments" if change.text.startswith("new, ") else change.text


def _some(labels: Sequence[str]) -> str:
    more = len(labels) - _SHOWN_FLOWS
    return f"{', '.join(labels[:_SHOWN_FLOWS])} and {more} more" if more > 0 else ", ".join(labels)


def _show_summary(
    results: Sequence[Result], unbuilt: int, console: Console, resolutions: int, seconds: float, *, write: bool
) -> None:
    changed = "changed" if write else "would change"
    states = {changed: 0, "unchanged": 0, "failed": unbuilt}
    for result in results:
        states[result.state if result.state in states else changed] += 1
    counted = ", ".join(f"{count} {state}" for state, count in states.items() if count)
    made = f"{resolutions} resolution{'' if resolutions == 1 else 's'}"
    count = len(results) + unbuilt
    flows = f"{count} flow{'' if count == 1 else 's'}"
    console.print(f"{flows}: {counted}; {made}; {seconds:.1f} s")
    names = diverging_names({result.label: result.outcome.lock for result in results if result.outcome})
    if names:
        stand = "package stands" if len(names) == 1 else "packages stand"
        console.print(
            f"{len(names)} {stand} at several versions; what aligning saves: bazel run //:lock_all -- --report"
        )


def _show_orphans(results: Sequence[Result], screen: Console) -> None:
    """Name locks that no flow has any more: the build reads them, too."""
    known = {result.label for result in results}
    workspace = in_workspace(Path()).resolve()
    for label, path in find_locks(workspace).items():
        if label not in known and _is_flow(path):
            place = path.relative_to(workspace)
            screen.print(f"warning: {place} is the lock of no flow: there is no {label}; remove it", markup=False)


def _is_flow(path: Path) -> bool:
    try:
        document: Mapping[str, Any] = json.loads((path / "flow.json").read_text(encoding="utf-8"))
        return bool(document.get("flow"))
    except (OSError, ValueError, AttributeError):
        return False


def _raise_problems(problems: Sequence[str], what: str) -> None:
    if problems:
        raise LockError("\n\n".join([f"{what}:", *problems]))
