"""Planned layers as tables for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mfbazel.explain.layers import LayerReport, LayersReport
from mfbazel.plan import BIG

_WHY = {
    "big": f"alone: {BIG >> 20} MiB or more",
    "target": "a target makes it",
    "steps": "small, the same steps",
    "sources": "small, the same steps, from sources",
    "budget": "merged: budget",
    "rest": "left by a merge",
}
_PLANS = {
    "this": "this plan",
    "room": "without a budget",
    "alone": "each wheel alone",
    "steps": "one layer per set of steps",
    "one": "one layer per step",
}


def show_layers(report: LayersReport, console: Console, steps: Sequence[str], layers: Sequence[LayerReport]) -> None:
    """Print ``layers`` of ``report``, and how many each of ``steps`` has."""
    console.print(f"layers for {report.platform}, from the bottom to the top", soft_wrap=True)
    console.print()
    console.print(_layers(layers, [step.step for step in report.steps]))
    console.print()
    console.print(_steps(report, steps))
    console.print()
    console.print(_plans(report))
    console.print()
    for line in _notes(report):
        console.print(line, style="dim", soft_wrap=True)


def _layers(layers: Sequence[LayerReport], every: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("layer")
    for title in ("wheels", "MB"):
        table.add_column(title, justify="right")
    table.add_column("steps")
    table.add_column("why")
    for title in ("saved MB", "twice MB", "bump MB"):
        table.add_column(title, justify="right")
    for layer in layers:
        alone = len(layer.wheels) == 1
        table.add_row(
            escape(str(layer.wheels[0]) if alone else layer.name),
            str(len(layer.wheels)),
            _size(layer),
            "every step" if len(layer.steps) == len(every) > 1 else ", ".join(layer.steps),
            _WHY[layer.why],
            _mb(layer.saved),
            _mb(layer.twice),
            _size(layer, layer.bump),
            style="yellow" if layer.why == "budget" else "",
        )
    return table


def _steps(report: LayersReport, steps: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("step")
    for title in ("layers", "of", "MB", "shared MB"):
        table.add_column(title, justify="right")
    for item in report.steps:
        if item.step in steps:
            table.add_row(item.step, str(item.layers), str(report.budget), _mb(item.size), _mb(item.shared))
    return table


def _plans(report: LayersReport) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("all steps")
    for title in ("layers", "most of a step", "stored MB", "bump MB"):
        table.add_column(title, justify="right")
    for plan in report.plans:
        over = plan.most > report.budget
        table.add_row(
            _PLANS[plan.plan],
            str(plan.layers),
            f"{plan.most}{' (over the budget)' if over else ''}",
            _mb(plan.stored),
            _mb(plan.bump),
            style="" if plan.plan == "this" else "dim",
        )
    return table


def _notes(report: LayersReport) -> list[str]:
    notes = [
        "MB: of wheel files; the layers themselves exist once they are built, and are compressed otherwise",
        "saved: not stored again, since steps share the layer   twice: in another layer as well",
        "bump: pushed again when one wheel changes (of a layer: at most; of a plan: on average over the wheels)",
    ]
    if any(wheel.size is None for layer in report.layers for wheel in layer.wheels):
        notes.append("?: the size of what a target makes is not in the lock, and counts as 0")
    if any(layer.why == "budget" for layer in report.layers):
        notes.append(f"merged: a step would have more than {report.budget} layers, see the attribute `budget`")
    return notes


def _size(layer: LayerReport, size: int | None = None) -> str:
    known = layer.size if size is None else size
    if all(wheel.size is None for wheel in layer.wheels):
        return "?"
    return _mb(known)


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f}" if size else ""
