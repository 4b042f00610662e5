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
    steps = max((len(check.step or _WHOLE) for check in checks), default=0)
    names = max((len(check.name) for check in checks), default=0)
    statuses = max(len(status.value) for status in Status)
    for check in checks:
        status = check.status.value.ljust(statuses)
        if stream.isatty():
            status = f"\x1b[{_COLOURS[check.status]}m{status}\x1b[0m"
        print(f"{(check.step or _WHOLE).ljust(steps)}  {check.name.ljust(names)}  {status}  {check.text}", file=stream)


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
    return json.dumps(content, indent=2, ensure_ascii=False)


def passed(checks: Iterable[Check]) -> bool:
    """Whether no check failed."""
    return all(check.status is not Status.FAILED for check in checks)
