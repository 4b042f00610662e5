"""A limit of processor time."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class SlowError(Exception):
    """Reading an input took too long."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise :class:`SlowError` in the body when it has taken ``seconds`` of processor time."""

    def expire(number: int, frame: FrameType | None) -> None:
        raise SlowError(f"more than {seconds:g} s of processor time, signal {number}: {frame}")

    previous = signal.signal(signal.SIGVTALRM, expire)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)
