"""A report as tables for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mfbazel.analyze import Step
from mfbazel.explain.report import Package, Reason, Report


def show(report: Report, console: Console, steps: Sequence[str], packages: Sequence[Package], command: str) -> None:
    """Print ``report`` for ``steps`` and ``packages``; ``command`` makes the lock."""
    flow = report.flow
    console.print(f"[bold]{flow.name}[/bold] ({escape(flow.source)}), read {escape(_way(report))}", soft_wrap=True)
    console.print()
    console.print(_steps(report, steps))
    packages = [package for package in packages if any(step in package.steps for step in steps)]
    runtime = [package for package in packages if set(package.steps) & set(steps) <= set(package.runtime)]
    own = [package for package in packages if package not in runtime]
    for heading, part in (("", own), ("For Metaflow itself, in every image:", runtime)):
        if part:
            console.print(f"\n{heading}" if heading else "")
            console.print(_matrix(part, steps, console))
    if packages:
        marks = _marks(console)
        said = (
            f"{marks[0]} asked for by the step   {marks[1]} needed by another package   {marks[2]} for Metaflow alone"
        )
        console.print(said, style="dim")
        console.print()
    for package in (*own, *runtime):
        _why(package, steps, console)
    say_lock(report, console, command)


def _way(report: Report) -> str:
    reading = report.flow.reading
    return f"{'statically' if reading.way == 'static' else 'by running it'} ({reading.reason})"


def _steps(report: Report, steps: Sequence[str]) -> Table:
    shown = [step for step in report.flow.steps if step.name in steps]
    extra = [title for title, value in _OPTIONAL.items() if any(value(step) for step in shown)]
    table = Table(box=None, pad_edge=False)
    for title in ("step", "type", "next", "Python", *extra):
        table.add_column(title, justify="right" if title in _NUMBERS else "left")
    table.add_column("packages", justify="right")
    table.add_column("MB", justify="right")
    for step in shown:
        size = report.size(step.name)
        table.add_row(
            step.name,
            step.type,
            ", ".join(step.next),
            step.python or "",
            *(_OPTIONAL[title](step) for title in extra),
            str(len(report.of_step(step.name))),
            "" if size is None else f"{size / 1e6:.1f}",
        )
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


_OPTIONAL: Mapping[str, Callable[[Step], str]] = {
    "CPU": lambda step: _number(step.requests.cpu),
    "memory MB": lambda step: _number(step.requests.memory),
    "GPU": lambda step: _number(step.requests.gpu),
    "platform": lambda step: step.platform or "",
    "remote": lambda step: ", ".join(f"@{remote.decorator}" for remote in step.remote),
    "own image": lambda step: ", ".join(sorted({remote.image for remote in step.remote if remote.image})),
    "environment": lambda step: "disabled" if step.disabled else "",
}
"""Columns that are shown where a step has something to say in them."""

_NUMBERS = ("CPU", "memory MB", "GPU")


def _marks(console: Console) -> tuple[str, str, str]:
    """Return the marks of a package that the step asks for, that another needs, and that is there for Metaflow."""
    return ("●", "○", "◇") if console.encoding.lower().startswith("utf") else ("*", "o", "m")


def _matrix(packages: Sequence[Package], steps: Sequence[str], console: Console) -> Table:
    asked, needed, runtime = _marks(console)
    table = Table(box=None, pad_edge=False)
    table.add_column("package")
    table.add_column("version")
    table.add_column("MB", justify="right")
    for step in steps:
        table.add_column(step, justify="center")
    for package in packages:
        cells = []
        for step in steps:
            why = package.steps.get(step)
            own = any(reason.asks for reason in why or ())
            other = runtime if step in package.runtime else needed
            cells.append("" if why is None else asked if own else other)
        size = "" if package.size is None else f"{package.size / 1e6:.1f}"
        table.add_row(package.name, package.version or "", size, *cells, style="" if package.declared else "dim")
    return table


def _why(package: Package, steps: Sequence[str], console: Console) -> None:
    """Print each reason once, with the steps that it holds for."""
    console.print(f"{package.name} {package.version or ''}".rstrip(), style="bold" if package.declared else "")
    for where, text in _reasons(package, steps):
        names = "every step" if len(where) == len(steps) > 1 else ", ".join(where)
        console.print(f"  {escape(text)} [dim]({names})[/dim]", soft_wrap=True)


def _reasons(package: Package, steps: Sequence[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the steps and the text of each reason; packages that need this one in the same steps are one reason."""
    holds: dict[Reason, list[str]] = {}
    for step in steps:
        for reason in package.steps.get(step, ()):
            holds.setdefault(reason, []).append(step)
    joined: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for reason, where in holds.items():
        if reason.kind in ("needed", "imported"):
            joined.setdefault((reason.kind, tuple(where)), []).append(reason.where)
        else:
            yield tuple(where), str(reason)
    for (kind, steps_of), names in joined.items():
        yield steps_of, str(Reason(kind, ", ".join(names)))


def say_lock(report: Report, console: Console, command: str) -> None:
    """Say what the lock does not fit, and the ``command`` that makes it."""
    if report.platform is None:
        console.print(f"\nnot locked yet: versions and sizes come with `{command}`", style="yellow")
    elif report.stale:
        console.print(
            f"\nchanged since it was locked: {', '.join(report.stale)}; run `{command}`", style="yellow", soft_wrap=True
        )
