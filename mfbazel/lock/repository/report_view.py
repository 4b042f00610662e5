"""The report of packages at several versions, for people."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mfbazel.lock.repository.report import Diverging, Report, Saving, VersionUse
from mfbazel.policy import FILE

_SHOWN_FLOWS = 3


def show_report(report: Report, console: Console, constraints: str | None) -> None:
    """Print ``report``. ``constraints``: the file for constraints that the policy names, when there is one."""
    if not report.diverging:
        console.print(f"every package of {_count(report.flows, 'flow')} stands at one version", markup=False)
        return
    console.print(_table(report))
    for title, lines in (
        (f"To align, write into {constraints or _NO_CONSTRAINTS}, and run `bazel run //:lock_all`:", _lines(report)),
        ("Declarations that stand against it:", _obstacles(report)),
    ):
        found = list(lines)
        if found:
            console.print("\n".join(["", title, *(f"  {line}" for line in found)]), markup=False)
    console.print("\n".join(["", *_summary(report)]), markup=False)


_NO_CONSTRAINTS = f"a file that {FILE} names (`[lock]`, `constraints`)"


def constraints_file(workspace: Path) -> str | None:
    """Return the first file of constraints that the policy of ``workspace`` names; what is wrong with the policy is for
    locking to say."""
    try:
        named = tomllib.loads((workspace / FILE).read_text(encoding="utf-8"))["lock"]["constraints"][0]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return str(named)


def _table(report: Report) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("package")
    table.add_column("version")
    table.add_column("MB", justify="right")
    table.add_column("used by")
    table.add_column("aligning saves")
    for item in report.diverging:
        for number, version in enumerate(item.versions):
            name, saving = ("", "") if number else (item.name, _saving_of(item))
            table.add_row(Text(name), version.version, _mb(version.bytes), Text(_users(version)), saving)
    return table


def _users(version: VersionUse) -> str:
    shown = [f"{use.flow} ({', '.join(use.steps)})" for use in version.uses[:_SHOWN_FLOWS]]
    more = len(version.uses) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _saving_of(item: Diverging) -> str:
    if not item.alignments:
        return "nothing: Pythons or variants differ"
    others = f", with {', '.join(item.together)}" if item.together else ""
    return f"{_saving(item.saving)}{others}{'' if item.allowed else ' (a declaration forbids it)'}"


def _saving(saving: Saving) -> str:
    if saving.layers > 0 or saving.layer_bytes > 0:
        return f"{_count(saving.layers, 'layer')}, {_mb(saving.layer_bytes)} MB"
    return f"{_mb(saving.wheel_bytes)} MB of wheels" if saving.wheel_bytes > 0 else "nothing"


def _lines(report: Report) -> Iterator[str]:
    for item in report.diverging:
        if item.allowed:
            yield from dict.fromkeys(alignment.constraint for alignment in item.alignments if alignment.constraint)


def _obstacles(report: Report) -> Iterator[str]:
    for item in report.diverging:
        for alignment in item.alignments:
            yield from (f"{item.name} {alignment.version}: {text}" for text in alignment.forbidden)


def _summary(report: Report) -> Iterator[str]:
    count = len(report.diverging)
    stands = "package stands" if count == 1 else "packages stand"
    yield f"{count} {stands} at several versions across {_count(report.flows, 'flow')}."
    stored = report.stored
    yield f"The images need {_count(stored.layers, 'layer')} of {_mb(stored.layer_bytes)} MB now."
    yield f"Aligning what the declarations allow saves {_saving(report.saving)}."
    if report.saving_at_most != report.saving:
        yield f"Aligning everything saves {_saving(report.saving_at_most)}."
    yield "Resolving again has the last word: another version may need other packages."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f}"
