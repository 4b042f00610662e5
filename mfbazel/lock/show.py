"""What a lock command tells a person."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from mfbazel.console import make_console
from mfbazel.lock.command import Outcome
from mfbazel.lock.document import Lock
from mfbazel.lock.model import LAUNCHER
from mfbazel.lock.runtime import for_metaflow_alone


def show_outcome(outcome: Outcome, written: Path | None, seconds: float) -> None:
    """Print what is locked and what changed; ``written``: the lock directory, ``None`` when nothing was to be
    written."""
    console = make_console()
    console.print(_table(outcome.lock))
    if len(outcome.lock.platforms) > 1:
        locked = ", ".join(outcome.lock.platforms)
        console.print(f"locked for {locked}; the sizes are those of {outcome.lock.platforms[0]}", markup=False)
    for line in _runtime(outcome.lock):
        console.print(line, markup=False, soft_wrap=True)
    state = "changed" if written else "would change"
    for change in outcome.changes:
        console.print(f"{state}: {change}", markup=False)
    if not outcome.changes:
        console.print("nothing to change")
    elif written:
        console.print(f"wrote {written}", markup=False)
    console.print(f"{seconds:.1f} s")


def _runtime(lock: Lock) -> list[str]:
    """Say what Metaflow itself needs, apart from what the steps do."""
    needed = {text for name, item in lock.environments.items() if name != LAUNCHER for text in item.get("runtime", ())}
    return [f"for Metaflow itself in every image: {', '.join(sorted(needed))}"] if needed else []


def _table(lock: Lock) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("environment", "Python", "requires", "packages", "for Metaflow", "MB"):
        table.add_column(title, justify="right" if title in ("packages", "for Metaflow", "MB") else "left")
    for name, environment in sorted(lock.environments.items()):
        shas = environment["wheels"].get(lock.platforms[0], [])
        size = sum(lock.document["wheels"][sha].get("size", 0) for sha in shas)
        requires = ", ".join(environment["requirements"]) or "—"
        table.add_row(
            Text(name),
            environment["python"],
            Text(requires),
            str(len(lock.versions(name))),
            str(len(for_metaflow_alone(lock, name)) or ""),
            f"{size / 1e6:.1f}",
        )
    return table
