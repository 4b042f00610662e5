"""What was found in layers, for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from mfbazel.audit.images import LayerAudit, LayerFinding
from mfbazel.audit.layer import SECRET, SETUID, WRITABLE
from mfbazel.errors import printable
from mfbazel.policy.rules import FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

_TITLES = {
    SECRET: "what looks like a secret: whoever pulls the image has it",
    SETUID: "files that run as their owner (setuid, setgid)",
    WRITABLE: "what anybody in the container may change",
}


def show_layers(audit: LayerAudit, console: Console) -> None:
    """Print what was found; what counts first."""
    counting = [item for item in audit.findings if item.counts]
    based = [item for item in audit.findings if not item.counts and item.exempt is None]
    exempt = [item for item in audit.findings if item.exempt is not None]
    console.print()
    for kind, group in groupby(counting, key=lambda item: item.kind):
        console.print(escape(_TITLES[kind]), style="bold red")
        _show(list(group), console)
    if based:
        console.print("of the base, which does not count:", style="bold")
        _show(based, console)
    for item in exempt:
        console.print(f"exempt by '{_shown(item.exempt or '')}': {_shown(item.path)}", style="dim", soft_wrap=True)
    where = f"{audit.layers} layers, {audit.size / 1e6:.1f} MB"
    if counting:
        found = f"{len(counting)} {'file' if len(counting) == 1 else 'files'}"
        console.print(f"{where}: {found} that should not be there", style="red")
        console.print(
            f"  Take them out of the package, the files or the base that they are from; what somebody looked at goes "
            f"into \\[exempt] files of {FILE}.",
            soft_wrap=True,
        )
    else:
        console.print(f"{where}: no secret, and nothing setuid or writable for all is above the bases")


def _shown(text: str) -> str:
    """Return foreign text as it can be printed in one line."""
    return escape(printable(text).replace("\n", r"\n"))


def _show(findings: Sequence[LayerFinding], console: Console) -> None:
    for item in findings:
        steps = ", ".join(item.steps)
        console.print(
            f"  {_shown(item.path)}: {_shown(item.what)}\n    {_shown(item.origin) or 'a layer'}, "
            f"{item.layer[:19]}…, in {_shown(steps)}",
            soft_wrap=True,
        )


@contextmanager
def bar() -> Iterator[Callable[[int, int], None]]:
    """Give a function that shows, on a terminal, how many bytes of how many have been read."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda *_: None
        return
    columns = (TextColumn("reading layers"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
