"""What a fuzzed input is, and what reading it may do: give a flow, or raise an error of the documented classes.

An input is the bytes of the flow's file; a line ``#### name.py`` begins a module beside it.
"""

from __future__ import annotations

import json
import re
import resource
import shutil
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from fuzz.limit import SlowError, limited
from mfbazel.analyze import AnalyzeError, ReadOptions, read_flow

SECONDS = 5.0
"""Processor time that reading one input may take."""
MEGABYTES = 400
"""By how much one input may raise the largest memory of the process (10^6 bytes)."""
LONGEST_MESSAGE = 5_000
"""Characters of an error."""

_MODULE = re.compile(rb"^#### (lib|shared|pkg/__init__|pkg/inner)\.py\r?\n", re.MULTILINE)
_OPTIONS = ReadOptions(reading="static", python="3.12")


class Misbehaviour(Exception):
    """Reading an input did what it must not do, without an exception of its own."""


@dataclass(frozen=True)
class Crash:
    """What went wrong. ``key`` is the same for inputs that fail alike: the exception and the last own function."""

    key: str
    text: str


def run(data: bytes, directory: Path) -> str:
    """Read the flow ``data`` in ``directory``, which is emptied first.

    Returns:
        ``flow``, or the name of the class of the error.

    Raises:
        Exception: whatever else happens; :class:`Misbehaviour` for too much memory or a bad message, and
            :class:`SlowError` for too much time.
    """
    path = write(data, directory)
    before = _peak()
    with limited(SECONDS):
        try:
            spec = read_flow(path, [directory / "roots"], _OPTIONS)
            json.dumps(spec.to_json(), ensure_ascii=False).encode()
            outcome = "flow"
        except AnalyzeError as error:
            _check_message(str(error))
            outcome = type(error).__name__
    if _peak() - before > MEGABYTES * 1_000_000:
        raise Misbehaviour(f"{(_peak() - before) / 1e6:.0f} MB were taken")
    return outcome


def write(data: bytes, directory: Path) -> Path:
    """Write the files of ``data`` into ``directory``, which is emptied first; return the flow's."""
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "pkg").mkdir(parents=True)
    parts = _MODULE.split(data)
    (directory / "flow.py").write_bytes(parts[0])
    for name, content in zip(parts[1::2], parts[2::2], strict=True):
        (directory / f"{name.decode()}.py").write_bytes(content)
    return directory / "flow.py"


def crash_of(data: bytes, directory: Path) -> Crash | None:
    """Read ``data`` as :func:`run` does; return what went wrong, or ``None``."""
    try:
        run(data, directory)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/mfbazel/" in frame.filename]
        names = [f"{Path(frame.filename).stem}.{frame.name}" for frame in frames] or ["target"]
        slow = isinstance(error, SlowError)  # found anywhere below what goes on and on
        place = Counter(names).most_common(1)[0][0] if slow else names[-1]
        text = "".join(traceback.format_exception(error, limit=-12))
        return Crash(f"{type(error).__name__}-{place}", text[-6_000:])
    return None


def _check_message(message: str) -> None:
    if not message.strip() or len(message) > LONGEST_MESSAGE:
        raise Misbehaviour(f"an error of {len(message)} characters")
    message.encode("utf-8", "backslashreplace")


def _peak() -> int:
    """Return the largest resident memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
