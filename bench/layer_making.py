"""Making the layers of wheels and measuring it: mfbazel's tool as a build runs it, and the usual chain.

The usual chain is what a Dockerfile or a tar rule does with a wheel: unpack it to disk, tar it, compress with gzip -6,
and read both files again for the two digests. mfbazel goes from the wheel to the blob and both digests in one pass, and
verifies every file against RECORD on the way.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from mfbazel.wheel.fetch import Wheel, fetch

USUAL = "usual chain"
"""The row of the usual chain."""

MIN_RUNS = 3
"""Rounds that a median needs."""

PLATFORM = "linux/amd64"
"""What layers are made for."""


@dataclass(frozen=True)
class Layer:
    """Wheels that go into one layer."""

    name: str
    wheels: tuple[Path, ...]


@dataclass(frozen=True)
class Usage:
    """What a process and those that it waited for took."""

    seconds: float
    """Wall time."""
    cpu: float
    """Seconds of all processors."""
    peak: int
    """Most memory that one of the processes had at once, in bytes (ru_maxrss of getrusage(2))."""

    def __add__(self, other: Usage) -> Usage:
        """Return the usage of both, one after the other."""
        return Usage(self.seconds + other.seconds, self.cpu + other.cpu, max(self.peak, other.peak))


NOTHING = Usage(0.0, 0.0, 0)


@dataclass(frozen=True)
class Made:
    """A layer that was made."""

    blob: Path
    descriptor: Path | None
    size: int
    """Bytes of the blob."""
    usage: Usage


@dataclass
class Result:
    """One row of the table: what each round took, and the bytes of all blobs."""

    rounds: list[Usage] = field(default_factory=list)
    size: int = 0
    part: bool = False
    """Whether it is a part of what another row says, or comes on top of it: it gets no speed of its own."""

    def add(self, usage: Usage, size: int) -> None:
        """Add a round."""
        self.rounds.append(usage)
        self.size = size

    @property
    def median(self) -> float:
        """Median of the rounds' wall time, in seconds."""
        return statistics.median(usage.seconds for usage in self.rounds)

    @property
    def peak(self) -> int:
        """Most memory of one process in any round, in bytes."""
        return max(usage.peak for usage in self.rounds)


def measure(
    command: Sequence[str | Path],
    directory: Path,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> Usage:
    """Run a command in ``directory``; its output goes to ``log``, else its errors to standard error.

    A process starts with the peak of the one that started it: do not call this from one that holds much.

    Raises:
        subprocess.CalledProcessError: the command failed; ``output`` is the end of the log.
    """
    words = [str(word) for word in command]
    with (log or Path(os.devnull)).open("wb") as stream:
        errors = stream if log else None
        start = time.perf_counter()
        process = subprocess.Popen(
            words, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=errors
        )
        usage = _waited(process, start)
    if process.returncode:
        output = "\n".join(log.read_text(errors="replace").splitlines()[-20:]) if log else None
        raise subprocess.CalledProcessError(process.returncode, words, output)
    return usage


def _waited(process: subprocess.Popen[Any], start: float) -> Usage:
    """Wait for a process that was started at ``start``."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Usage(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def mfbazel_command(package: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment that run the front of a package of mfbazel with this Python."""
    path = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)
    return [sys.executable, "-m", f"mfbazel.{package}", *arguments], {**os.environ, "PYTHONPATH": path}


class LayerWorker:
    """mfbazel's tool as a build runs it: one persistent worker, started when the first layer is asked for.

    A context manager; processor time and memory are those of the worker's whole life, see :meth:`end`.
    """

    def __init__(self, python: str, options: Sequence[str]) -> None:
        """Say what all layers have in common: the image's Python ``X.Y``, and options for the compression."""
        self._arguments = ["wheels", "--python", python, "--platform", PLATFORM, *options]
        self._process: subprocess.Popen[str] | None = None
        self._start = 0.0

    def __enter__(self) -> LayerWorker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self.end()

    def make(self, layer: Layer, directory: Path) -> Made:
        """Make a layer in ``directory``; its usage says the time only, and that of the first one includes the start.

        Raises:
            subprocess.CalledProcessError: the layer cannot be made; ``output`` says why.
        """
        start = time.perf_counter()
        if self._process is None:
            command, environment = mfbazel_command("layer", "--persistent_worker")
            self._start = start
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        blob, descriptor = directory / "l.blob", directory / "l.json"
        outputs = ["--blob", blob, "--descriptor", descriptor, "--files", directory / "l.tsv"]
        wheels = (wheel.resolve() for wheel in layer.wheels)
        arguments = [*self._arguments, "--name", layer.name, *map(str, outputs), *map(str, wheels)]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"arguments": arguments}) + "\n")
        self._process.stdin.flush()
        response = json.loads(self._process.stdout.readline() or '{"exitCode": 1, "output": "the worker ended"}')
        if response["exitCode"]:
            raise subprocess.CalledProcessError(response["exitCode"], arguments, response["output"])
        return Made(blob, descriptor, blob.stat().st_size, Usage(time.perf_counter() - start, 0.0, 0))

    def end(self) -> Usage:
        """End the worker; return what it and the processes of the layers took, from its start to its end."""
        assert self._process is not None
        process, self._process = self._process, None
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()
        return _waited(process, self._start)


def usual_chain(layer: Layer, directory: Path) -> Made:
    """Make a layer by the usual chain."""
    unpack = [f"unzip -q {shlex.quote(str(wheel.resolve()))} -d tree" for wheel in layer.wheels]
    script = "; ".join(["set -e", *unpack, "tar -cf l.tar -C tree .", "gzip -6 -k l.tar", "sha256sum l.tar l.tar.gz"])
    usage = measure(["bash", "-c", script], directory)
    blob = directory / "l.tar.gz"
    return Made(blob, None, blob.stat().st_size, usage)


def fetch_wheels(entries: Iterable[tuple[str, Mapping[str, Any]]], directory: Path) -> list[Path]:
    """Fetch wheels (sha256, entry of a lock's ``wheels``) into ``directory`` as a build does, from the cache if there.

    Raises:
        FetchError: one cannot be had.
    """
    return [
        fetch(Wheel(entry["name"], entry["version"], entry["file"], sha256), directory / entry["file"])
        for sha256, entry in entries
    ]


def warm(wheels: Iterable[Path]) -> None:
    """Read files into the page cache, and none of them into this process."""
    buffer = bytearray(1 << 20)
    for wheel in wheels:
        with wheel.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def content_of(wheels: Iterable[Path]) -> int:
    """Return the bytes of the files in wheels."""
    total = 0
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            total += sum(info.file_size for info in archive.infolist())
    return total


def table(title: str, results: Mapping[str, Result], content: int) -> Table:
    """Return the table of ``results``: time, speed for ``content`` bytes, ratio to the usual chain, size, memory."""
    cores = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    rows = Table(title=f"{title}\n{content / 1e6:.0f} MB of content; {cores}")
    for heading in ("", "runs", "s", "min-max", "MB/s", "ratio", "CPU s", "blobs MB", "peak MB"):
        rows.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    usual = results.get(USUAL)
    for name, result in results.items():
        seconds = [usage.seconds for usage in result.rounds]
        rows.add_row(
            name,
            str(len(seconds)),
            f"{result.median:.2f}",
            f"{min(seconds):.2f}-{max(seconds):.2f}",
            "" if result.part else f"{content / 1e6 / result.median:.1f}",
            f"{usual.median / result.median:.1f}" if usual and not result.part else "",
            f"{statistics.median(usage.cpu for usage in result.rounds):.1f}",
            f"{result.size / 1e6:.1f}" if result.size else "",
            f"{result.peak / 1e6:.0f}",
        )
    return rows


def runs(text: str) -> int:
    """Read the argument ``--runs``."""
    if (number := int(text)) < MIN_RUNS:
        raise argparse.ArgumentTypeError(f"at least {MIN_RUNS} rounds are needed for a median")
    return number
