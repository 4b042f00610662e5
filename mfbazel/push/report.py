"""What a push tells the person who waits for it."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from mfbazel.errors import MfbazelError
from mfbazel.push.delivery import Content, Delivery
from mfbazel.push.embedded import Ensured
from mfbazel.push.errors import PushError
from mfbazel.registry.artifact import Published
from mfbazel.registry.upload import Outcome, Uploaded
from mfbazel.sign import Outcome as Attached

_LINES_EVERY = 15.0  # seconds without a line, where there is no terminal
_BAR_BYTES = 1 << 20  # smaller blobs get no bar of their own
_JSON_SCHEMA = 1


@dataclass(frozen=True)
class Summary:
    """Figures of one push.

    Attributes:
        images: images that the registries confirmed.
        pushed: those of them that they lacked.
        sent_blobs: blobs uploaded, or copied into the embedded registry's store.
        sent_bytes: the bytes that went out for them (manifests, about a kilobyte each, not counted).
        mounted_blobs: blobs that another repository of the registry gave.
        seconds: wall time.
    """

    images: int
    pushed: int
    sent_blobs: int
    sent_bytes: int
    mounted_blobs: int
    seconds: float


class Progress(Protocol):
    """Is told of blobs while they are sent, by several threads."""

    def sending(self, count: int, size: int) -> Any:
        """Return a context in which ``count`` blobs of ``size`` bytes in all are sent."""

    def blob_begins(self, content: Content) -> None:
        """A blob is asked for, and sent if need be."""

    def blob_moves(self, content: Content, position: int) -> None:
        """So many bytes of a blob are on the way or there."""

    def blob_ends(self, content: Content, uploaded: Sequence[Uploaded]) -> None:
        """A blob is where it belongs; ``uploaded`` has an entry per repository."""


class _Console(Console):
    """A console whose stream may end, or know few letters: neither is a reason to end what is told of.

    Attributes:
        lost: why nothing can be written any more; not when the readers went away.
    """

    lost: OSError | None = None

    def __init__(self, stream: TextIO | None, stderr: bool = False) -> None:
        """Write to ``stream``, else to one of the process's."""
        super().__init__(file=stream, stderr=stderr, highlight=False, soft_wrap=True)
        if isinstance(self.file, io.TextIOWrapper) and "utf" not in self.file.encoding.lower():
            self.file.reconfigure(errors="backslashreplace")

    @property
    def shows_bars(self) -> bool:
        """Whether lines can be drawn over; a CI system that wants colours says that it is a terminal, too."""
        return self.is_terminal and self.file.isatty() and not self.is_dumb_terminal

    def write(self, text: str) -> None:
        """Write a text as it is."""
        try:
            self.file.write(text)
            self.file.flush()
        except BrokenPipeError:
            self.on_broken_pipe()
        except OSError as error:
            self._give_up(error)

    def on_broken_pipe(self) -> None:
        """See rich, which would exit."""
        self._give_up(None)

    def __exit__(self, *raised: Any) -> None:
        """See rich: here it writes."""
        try:
            super().__exit__(*raised)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError | None) -> None:
        self.lost = self.lost or error
        self.quiet = True
        with suppress(OSError, ValueError):  # or the interpreter fails on what is left when it ends
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.file.fileno())
            os.close(null)


class Reporter:
    """Prints a push: results (``step → image``) on ``out``, everything else on ``err``.

    On a terminal there are colours, and a bar per blob and one for all; elsewhere plain lines, each whole.
    """

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None, results: bool = True) -> None:
        """Print to the process's streams, unless others are given.

        Args:
            out: for results.
            err: for everything else.
            results: whether results are printed; not where something else goes to standard output.
        """
        self._out = _Console(out)
        self._err = _Console(err, stderr=True)
        self._results = results
        self._width = 0
        self._bars: Bars | None = None
        self._tasks: dict[int, TaskID] = {}  # by what is sent: two registries may get one digest
        self._all = TaskID(0)
        self._lock = threading.Lock()
        self._count = self._size = self._ended = self._done = 0
        self._positions: dict[int, int] = {}
        self._last_line = 0.0

    def begin(self, where: str, steps: Sequence[str], verb: str = "pushing") -> None:
        """The images of these steps begin to go to ``where``."""
        self._width = max(self._width, *(len(step) for step in steps))
        self.note(f"{verb} {counted(len(steps), 'step image')} to {where}")

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

    def lacking(self, deliveries: Sequence[Delivery]) -> None:
        """These images are offered to their registries."""
        for delivery in deliveries:
            what = delivery.what.removeprefix("the image of ")
            self.note(f"{what}: {counted(len(delivery.blobs), 'blob')}, {human(delivery.size)}")

    @contextmanager
    def sending(self, count: int, size: int) -> Iterator[None]:
        """See :class:`Progress`."""
        self._count, self._size, self._ended, self._done = count, size, 0, 0
        self._last_line = time.monotonic()
        if not (self._err.shows_bars and count):
            yield
            return
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Bars(*columns, console=self._err, transient=True) as self._bars:
            self._all = self._bars.add_task(counted(count, "blob"), total=size)
            try:
                yield
            finally:
                self._bars = None

    def blob_begins(self, content: Content) -> None:
        """See :class:`Progress`."""
        if self._bars and content.size >= _BAR_BYTES:
            with self._lock:
                self._tasks[id(content)] = self._bars.add_task(_short(content.digest), total=content.size)

    def blob_moves(self, content: Content, position: int) -> None:
        """See :class:`Progress`."""
        with self._lock:
            self._positions[id(content)] = position
            done = self._done + sum(self._positions.values())
            if self._bars:
                if task := self._tasks.get(id(content)):
                    self._bars.update(task, completed=position)
                self._bars.update(self._all, completed=done)
            elif time.monotonic() - self._last_line >= _LINES_EVERY:
                self._line(f"{human(done)} of {human(self._size)}")

    def blob_ends(self, content: Content, uploaded: Sequence[Uploaded]) -> None:
        """See :class:`Progress`."""
        with self._lock:
            self._ended += 1
            self._done += content.size
            self._positions.pop(id(content), None)
            if self._bars:
                if task := self._tasks.pop(id(content), None):
                    self._bars.remove_task(task)
                self._bars.update(self._all, completed=self._done + sum(self._positions.values()))
            elif any(one.outcome is Outcome.SENT for one in uploaded) and content.size >= _BAR_BYTES:
                resumed = max(one.resumed for one in uploaded)
                kept = f" ({human(resumed)} of it by an earlier push)" if resumed else ""
                self._line(f"sent {_short(content.digest)}, {human(content.size)}{kept}")

    def _line(self, text: str) -> None:
        self._last_line = time.monotonic()
        self.note(f"  {text}; {self._ended} of {counted(self._count, 'blob')}")

    def result(self, step: str, image: str) -> None:
        """The image of the step is there.

        Raises:
            PushError: standard output takes nothing.
        """
        if self._results:
            self._out.print(Text(step.ljust(self._width), style="bold") + Text(f"  → {image}", style="not bold"))
            self._check_out()

    def published(self, reference: str, published: Published) -> None:
        """The record is in the registry as ``reference``."""
        self.note(f"published {reference}" if published.tags or published.fixed else f"already published: {reference}")
        for tag in published.fixed:
            self.note(f"  the registry does not move the tag {tag}: it still names an earlier images.json", "yellow")

    def attached(self, done: Attached) -> None:
        """Documents are attached and signatures made, or were there."""
        what = [counted(done.attached, "document")] if done.attached else []
        what += [counted(done.signed, "signature")] if done.signed else []
        self.note(f"attached {' and '.join(what)}" if what else "already attached and signed")

    def end(self, summary: Summary, dry_run: bool = False) -> None:
        """Everything is confirmed and recorded, or in a dry run counted."""
        if dry_run:
            what = f"{counted(summary.sent_blobs, 'blob')}, {human(summary.sent_bytes)}"
            self.note(
                f"dry run: {summary.pushed} of {counted(summary.images, 'image')} would be pushed, {what}; nothing sent"
            )
            return
        what = f"{counted(summary.sent_blobs, 'blob')}, {human(summary.sent_bytes)} sent"
        if summary.mounted_blobs:
            what += f", {summary.mounted_blobs} mounted"
        if not summary.pushed:
            what = "nothing changed, nothing sent"
        self.note(f"{counted(summary.images, 'image')} confirmed, {what}, {summary.seconds:.1f} s", "green")

    def print_json(self, content: Mapping[str, Any]) -> None:
        """Print an object for programs.

        Raises:
            PushError: standard output takes nothing.
        """
        self._out.write(json.dumps({"schema": _JSON_SCHEMA, **content}, indent=2) + "\n")
        self._check_out()

    @contextmanager
    def failures_as_json(self, wanted: bool) -> Iterator[None]:
        """Print, if ``wanted``, why the whole run failed, so that there is JSON in any case."""
        try:
            yield
        except MfbazelError as error:
            if wanted:
                self.print_json({"error": str(error)})
            raise

    def _check_out(self) -> None:
        if error := self._out.lost:
            raise PushError(
                f"what was done cannot be written to standard output: {error.strerror or error}. All of it is done: "
                "make room, and the same command says it again and sends nothing."
            )


def human(count: int) -> str:
    """Return a number of bytes for people, in powers of 1000."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def counted(number: int, thing: str) -> str:
    """Return ``1 thing`` or ``2 things``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _short(digest: str) -> str:
    return digest[:19]
