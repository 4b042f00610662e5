"""The checks for people and for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from mfbazel.verify.check import FLOW, Check, Status
from mfbazel.verify.deployed import Deployed

_COLOURS = {Status.OK: "32", Status.FAILED: "31", Status.SKIPPED: "33"}
_WHOLE = "(flow)"


def print_checks(checks: Sequence[Check], out: TextIO | None = None) -> None:
    """Print one line per check, in columns; in colour on a terminal."""
    stream = out or sys.stdout
    rows = [(_line(check.step or _WHOLE), _line(check.name), check.status, _line(check.text)) for check in checks]
    steps = max((len(step) for step, *_ in rows), default=0)
    names = max((len(name) for _, name, *_ in rows), default=0)
    statuses = max(len(status.value) for status in Status)
    for step, name, status, text in rows:
        shown = status.value.ljust(statuses)
        if stream.isatty():
            shown = f"\x1b[{_COLOURS[status]}m{shown}\x1b[0m"
        print(f"{step.ljust(steps)}  {name.ljust(names)}  {shown}  {text}", file=stream)


def _line(text: str) -> str:
    """Return ``text`` in one line that does nothing to a terminal: documents of strangers may be quoted in it."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def summary(checks: Iterable[Check]) -> str:
    """Return the numbers, in one line."""
    counts = dict.fromkeys(Status, 0)
    for check in checks:
        counts[check.status] += 1
    return f"{counts[Status.OK]} checks passed, {counts[Status.FAILED]} failed, {counts[Status.SKIPPED]} skipped"


def to_json(deployed: Deployed, checks: Sequence[Check]) -> str:
    """Return the checks as JSON: ``ok``, ``images``, ``label``, and ``checks``; ``step`` is null for the whole flow."""
    content = {
        "ok": passed(checks),
        "images": deployed.where,
        "label": deployed.label or None,
        "checks": [
            {
                "step": None if check.step == FLOW else check.step,
                "check": check.name,
                "status": check.status.value,
                "text": check.text,
            }
            for check in checks
        ],
    }
    return json.dumps(content, indent=2)


def passed(checks: Iterable[Check]) -> bool:
    """Whether no check failed."""
    return all(check.status is not Status.FAILED for check in checks)
