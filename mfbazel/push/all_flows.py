"""Pushing every flow of a repository, or those that changes affect: ``bazel run //:push_all``.

Bazel finds the flows and builds their images; then all of them are pushed in one run. One flow's error does not stop
the others.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from mfbazel.push.all_affected import find_affected
from mfbazel.push.all_bazel import BuiltFlow, Flows, PushBazel
from mfbazel.push.all_changes import changes_since
from mfbazel.push.errors import PushError
from mfbazel.push.report import counted
from mfbazel.state import parse_label

EVERYTHING = "//..."
_NO_LOCK = "it has no lock, or one that cannot be read: bazel run {label}.lock"
_NOT_BUILT = "Bazel could not build its images; it says why above"
_STOPPED = "not pushed, since another flow failed (--fail-fast)"


@dataclass
class Chosen:
    """One flow, and what became of it.

    Attributes:
        label: the flow.
        because: why it was chosen; ``None`` where every flow is.
        error: why it failed, a complete message.
        pushed: what its push says of it, as JSON.
    """

    label: str
    because: str | None = None
    error: str | None = None
    pushed: Mapping[str, Any] = field(default_factory=dict)

    def state(self, done: str) -> str:
        """Return a word for it, ``done`` where nothing failed."""
        return "failed" if self.error else done

    def to_json(self, done: str) -> dict[str, Any]:
        """Return it for other programs; ``because`` and ``error`` are there where there are any."""
        said = {"because": self.because, "error": self.error}
        about = {"label": self.label, "state": self.state(done)}
        return {**self.pushed, **about, **{name: text for name, text in said.items() if text}}


@dataclass(frozen=True)
class Selection:
    """The flows that are to be pushed.

    Attributes:
        results: one for each, those that have no lock with their error.
        since: the revision that changes are counted from, ``None`` without one.
        changes: how many files changed.
        others: how many flows are not affected.
        problems: what could not be loaded, in words.
    """

    results: Sequence[Chosen]
    since: str | None = None
    changes: int = 0
    others: int = 0
    problems: Sequence[str] = ()


def select(
    bazel: PushBazel, workspace: Path, patterns: Sequence[str], excluded: Sequence[str], since: str | None
) -> Selection:
    """Choose flows.

    Args:
        bazel: finds them.
        workspace: the root directory.
        patterns: Bazel's target patterns.
        excluded: patterns of flows that are left out.
        since: only flows that changes since this revision affect.

    Raises:
        PushError: Bazel or git cannot answer, or the patterns name no flow.
    """
    found = bazel.find_flows(patterns, excluded)
    if since is None:
        return Selection(_results(found, None), problems=found.problems)
    changes = changes_since(workspace, since)
    if not changes:
        return Selection([], since, others=len(found.labels))
    graph, problems = bazel.graph()
    reasons = find_affected(workspace, graph, changes).reasons
    results = _results(found, reasons)
    others = len(found.labels) + len(found.unlocked) - len(results)
    return Selection(results, since, len(changes), others, list(dict.fromkeys([*found.problems, *problems])))


def _results(found: Flows, reasons: Mapping[str, str] | None) -> list[Chosen]:
    """Return the flows that ``reasons``, if there are any, name."""
    errors = {label: _NO_LOCK.format(label=label) for label in found.unlocked}
    labels = sorted([*found.labels, *found.unlocked])
    chosen = labels if reasons is None else [label for label in labels if label in reasons]
    return [Chosen(label, reasons[label] if reasons else None, error=errors.get(label)) for label in chosen]


def add_all_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``//:push_all`` that choose and build; those of a flow's own push are added elsewhere."""
    parser.add_argument(
        "patterns",
        nargs="*",
        metavar="PATTERN",
        help=f"flows, as Bazel's target patterns: //flows/..., //flows:my_flow (default: {EVERYTHING})",
    )
    parser.add_argument("--exclude", action="append", default=[], metavar="PATTERN", help="leave these out; repeatable")
    parser.add_argument(
        "--since",
        metavar="REV",
        help="only flows whose images changes affect since the merge base with this revision of git, what is not "
        "committed included",
    )
    parser.add_argument("--list", action="store_true", help="build and push nothing; say which flows, and why")
    parser.add_argument(
        "--fail-fast", action="store_true", help="push nothing when a flow has no lock or cannot be built"
    )
    parser.add_argument("--stamp", action="store_true", help="build with --stamp")
    parser.add_argument(
        "--build-option", action="append", default=[], metavar="OPTION", help="a further option of Bazel; repeatable"
    )
    parser.add_argument("--bazel", metavar="COMMAND", help="what to call as Bazel (default: what started this)")


class AllFlows:
    """One command over many flows.

    Attributes:
        selection: the flows.
        screen: where progress goes, standard error.
        began: when the command was given, of the monotonic clock.
    """

    def __init__(self, selection: Selection, screen: Console, began: float) -> None:
        self.selection = selection
        self.screen = screen
        self.began = began

    def show_selection(self) -> None:
        """Say which flows are chosen, and why."""
        chosen = self.selection
        if chosen.since is not None:
            files = counted(chosen.changes, "changed file")
            self.screen.print(
                f"{files} since {chosen.since}: {counted(len(chosen.results), 'flow')} affected, {chosen.others} not"
            )
        for result in chosen.results:
            if result.because:
                self.screen.print(Text(f"{result.label}: because {result.because}"))

    def build(self, bazel: PushBazel, options: Sequence[str], *, fail_fast: bool) -> list[BuiltFlow]:
        """Build the images of the flows that nothing is wrong with; return those that are to be pushed.

        Args:
            bazel: builds.
            options: further options of ``bazel build``.
            fail_fast: return none when one has no lock or cannot be built.
        """
        wanted = {chosen.label: chosen for chosen in self.selection.results if not chosen.error}
        built = {}
        if wanted and not (fail_fast and self.failed):
            built = bazel.build(list(wanted), options, keep_going=not fail_fast)
            for label, chosen in wanted.items():
                chosen.error = None if label in built else _NOT_BUILT
        if fail_fast and self.failed:
            for chosen in wanted.values():
                chosen.error = chosen.error or _STOPPED
            return []
        return [built[label] for label in wanted if label in built]

    def enter(self, flows: Sequence[Mapping[str, Any]]) -> None:
        """Take over what became of the flows that were pushed, as :meth:`Pushed.as_json` says it."""
        pushed = {flow["label"]: flow for flow in flows}
        for chosen in self.selection.results:
            if flow := pushed.get(chosen.label):
                chosen.error = flow["error"]
                chosen.pushed = {name: value for name, value in flow.items() if name != "error" and value}

    @property
    def failed(self) -> list[Chosen]:
        """The flows that failed so far."""
        return [result for result in self.selection.results if result.error]

    def document(self, done: str) -> dict[str, Any]:
        """Return the results for other programs."""
        chosen = self.selection
        about = {"since": chosen.since, "changed_files": chosen.changes} if chosen.since is not None else {}
        problems = {"problems": list(chosen.problems)} if chosen.problems else {}
        return {**about, "flows": [result.to_json(done) for result in chosen.results], **problems}

    def show_summary(self, done: str) -> None:
        """Say what became of each flow, and of all."""
        results = self.selection.results
        for result in results:
            if result.error:
                self.screen.print(Text(f"{result.label}: failed: {result.error}", "red"))
        states = [result.state(done) for result in results]
        summary = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states)))
        self.screen.print(
            f"{counted(len(results), 'flow')}: {summary or 'nothing to do'}; {time.monotonic() - self.began:.1f} s"
        )

    def exit_code(self) -> int:
        """Return 1 when a flow failed, or when there may be flows that could not be found.

        Raises:
            PushError: Bazel could not look at everything.
        """
        if self.selection.problems:
            raise PushError("\n\n".join(["not everything could be looked at:", *self.selection.problems]))
        return 1 if self.failed else 0


def output_of(directory: Path | None, label: str) -> Path | None:
    """Return where the record of a flow is copied to, below the directory of ``--output``."""
    return directory and Path(directory, *parse_label(label), "images.json")
