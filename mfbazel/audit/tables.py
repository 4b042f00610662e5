"""A report as tables for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mfbazel.audit.report import Finding, Package, Report, blocking
from mfbazel.lock.model import LAUNCHER
from mfbazel.lock.wheels.licenses import UNKNOWN

_NOT_RECORDED = "not recorded"


def show(report: Report, console: Console, steps: Sequence[str], command: str) -> None:
    """Print ``report``.

    Args:
        steps: names of the environments that were audited, the launcher's perhaps among them.
        command: makes the lock.
    """
    images = [package for package in report.packages if not package.launcher_only]
    launcher = [package for package in report.packages if package.launcher_only]
    names = [step for step in steps if step != LAUNCHER]
    if images:
        console.print(_table(images, names))
    if launcher:
        heading = "Of the launcher, and in no image:" if images else "Of the launcher:"
        console.print(f"\n{heading}" if images else heading)
        console.print(_table(launcher, []))
    for package in report.packages:
        if package.findings:
            console.print()
            _details(package, names, console, command)
    console.print()
    _licenses(report.packages, console, command)
    _conclusion(report, console)


def _table(packages: Sequence[Package], steps: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("package", "version", "licence", *(["steps"] if steps else []), "advisories"):
        table.add_column(title)
    for package in packages:
        license = package.license or _NOT_RECORDED
        style = "[yellow]" if license in (UNKNOWN, _NOT_RECORDED) else ""
        where = [_where(package, steps)] if steps else []
        found = ", ".join(finding.id for finding in package.counting)
        ignored = len(package.findings) - len(package.counting)
        advisories = ", ".join(filter(None, [escape(found), f"{ignored} ignored" if ignored else ""]))
        row = [package.name, package.version, f"{style}{escape(license)}", *where, advisories]
        table.add_row(*row, style="red" if found else "")
    return table


def _where(package: Package, steps: Sequence[str]) -> str:
    own = [step for step in package.steps if step != LAUNCHER]
    return "every step" if len(own) == len(steps) > 1 else ", ".join(own)


def _details(package: Package, steps: Sequence[str], console: Console, command: str) -> None:
    own = [_where(package, steps) or "", "the launcher" if LAUNCHER in package.steps else ""]
    where = ", ".join(filter(None, own))
    console.print(f"{package.name} {package.version} ({escape(where)})", style="bold", soft_wrap=True)
    for finding in package.findings:
        _finding(package, finding, console, command)


def _finding(package: Package, finding: Finding, console: Console, command: str) -> None:
    aliases = f" ({', '.join(finding.aliases)})" if finding.aliases else ""
    severity = ", ".join(filter(None, [finding.severity.lower(), *finding.scores]))
    style = "red" if finding.ignored is None else "dim"
    console.print(f"  {escape(finding.id + aliases)}{f': {escape(severity)}' if severity else ''}", style=style)
    if finding.summary:
        console.print(f"    {escape(finding.summary)}", soft_wrap=True)
    if finding.ignored is not None:
        console.print(f"    ignored{f': {escape(finding.ignored)}' if finding.ignored else ''}", soft_wrap=True)
        return
    if not finding.fixed:
        console.print("    no version that fixes it is known")
        return
    console.print(
        f"    fixed in {', '.join(finding.fixed)}: {escape(command)} -- --upgrade-package {package.name}",
        soft_wrap=True,
    )
    for step, text in blocking(package, finding):
        console.print(f"    step '{step}' requires {escape(text)}: change that first", soft_wrap=True)


def _licenses(packages: Iterable[Package], console: Console, command: str) -> None:
    counted = Counter(package.license or _NOT_RECORDED for package in packages)
    ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    console.print(
        f"licences: {'; '.join(f'{number} {escape(license)}' for license, number in ordered)}", soft_wrap=True
    )
    if counted[_NOT_RECORDED]:
        bare = _counted(counted[_NOT_RECORDED], "package")
        console.print(
            f"the lock does not say the licence of {bare}: an older mfbazel made it; run `{escape(command)}`",
            style="yellow",
            soft_wrap=True,
        )


def _conclusion(report: Report, console: Console) -> None:
    for id in report.unused:
        console.print(f"--ignore {escape(id)}: applies to nothing here", style="yellow")
    if report.database is None:
        console.print(
            "advisories: none were given, so vulnerabilities were not looked for; give a file in the OSV format "
            "(`--advisories FILE`, attribute `advisories`), for example the PyPI export of osv.dev",
            style="yellow",
            soft_wrap=True,
        )
        return
    newest = f", the newest of {escape(report.database.newest[:10])}" if report.database.newest else ""
    console.print(f"advisories: {report.database.count} about PyPI{newest}", soft_wrap=True)
    count = sum(len(package.counting) for package in report.packages)
    packages = _counted(len(report.packages), "package")
    ignored = sum(len(package.findings) for package in report.packages) - count
    besides = f", besides {ignored} ignored" if ignored else ""
    if count:
        found = _counted(count, "vulnerability", "vulnerabilities")
        console.print(f"{found} in {len(report.vulnerable)} of {packages}{besides}", style="red")
    else:
        console.print(f"no vulnerability is known in {packages}{besides}")


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or f'{one}s'}"
