"""What a push tells the person who waits for it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.status import Status
from rich.text import Text

from mfbazel.push.crane import Event
from mfbazel.push.embedded import Ensured
from mfbazel.push.layout import Layout
from mfbazel.registry.artifact import Published


@dataclass(frozen=True)
class Summary:
    """Figures of one push.

    Attributes:
        pushed: images whose manifest or blobs were offered to the registry.
        confirmed: images that the registry confirmed, the pushed ones included.
        sent_blobs: blobs uploaded, or copied into the embedded registry's store.
        sent_bytes: their bytes (manifests, about a kilobyte each, not counted).
        seconds: wall time.
    """

    pushed: int
    confirmed: int
    sent_blobs: int
    sent_bytes: int
    seconds: float


class Reporter:
    """Prints a push: results (``step → image``) on ``out``, everything else on ``err``.

    On a terminal there are colours and a line that moves; elsewhere plain lines, each whole.
    """

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out = Console(file=out or sys.stdout, highlight=False, soft_wrap=True)
        self._err = Console(file=err or sys.stderr, highlight=False, soft_wrap=True)
        self._width = 0
        self._status: Status | None = None
        self._image = ""
        self._done = self._sent = 0

    def begin(self, where: str, steps: Sequence[str], verb: str = "pushing") -> None:
        """The images of these steps begin to go to ``where``."""
        self._width = max(len(step) for step in steps)
        self.note(f"{verb} {_count(len(steps), 'step image')} to {where}")

    def note(self, text: str, style: str = "") -> None:
        """Print one line beside the results."""
        self._err.print(Text(text, style=style))

    def embedded(self, ensured: Ensured, store: Path) -> None:
        """An embedded registry is used."""
        running = ensured.running
        verb = (
            "no repository is configured: started an embedded registry"
            if ensured.started
            else "using the embedded registry"
        )
        self.note(f"{verb} on {running.host} (process {running.pid})")
        if ensured.started:
            self.note(f"  its blobs are in {store}; it keeps running; stop it with `kill {running.pid}`")
        if ensured.former_port:
            self.note(
                f"  its former port {ensured.former_port} is taken: images pushed to it have to be pushed again",
                "yellow",
            )

    def image_begins(self, steps: Sequence[str], layout: Layout) -> None:
        """One image, of these steps, is offered to the registry."""
        self._image, self._done, self._sent = ", ".join(steps), 0, 0
        line = f"{self._image}: {_count(len(layout.blobs), 'blob')}, {human(layout.size)}"
        if self._err.is_terminal:
            self._status = self._err.status(Text(line))
            self._status.start()
        else:
            self.note(line)

    def blob(self, event: Event, size: int, layout: Layout) -> None:
        """The registry has one more blob of the image."""
        self._done += 1
        self._sent += size if event is Event.PUSHED else 0
        if self._status:
            line = f"{self._image}: {self._done} of {len(layout.blobs)} blobs, {human(self._sent)} sent"
            self._status.update(Text(line))

    def image_ends(self) -> None:
        """The image is there, or failed."""
        if self._status:
            self._status.stop()
            self._status = None

    def result(self, step: str, image: str) -> None:
        """The registry confirmed the image of the step."""
        self._out.print(Text(step.ljust(self._width), style="bold") + Text(f"  → {image}", style="not bold"))

    def published(self, reference: str, published: Published) -> None:
        """The record is in the registry as ``reference``."""
        self.note(f"published {reference}" if published.tags or published.fixed else f"already published: {reference}")
        for tag in published.fixed:
            self.note(f"  the registry does not move the tag {tag}: it still names an earlier images.json", "yellow")

    def end(self, summary: Summary, record: Path) -> None:
        """Everything is confirmed and recorded."""
        what = f"{_count(summary.sent_blobs, 'blob')}, {human(summary.sent_bytes)} sent"
        if not summary.pushed:
            what = "nothing changed, nothing sent"
        self.note(f"recorded in {record}")
        self.note(f"{_count(summary.confirmed, 'image')} confirmed, {what}, {summary.seconds:.1f} s", "green")


def human(count: int) -> str:
    """Return a number of bytes for people, in powers of 1000."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def _count(number: int, thing: str) -> str:
    """Return ``1 thing`` or ``2 things``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
