"""Doing the same to many things at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Stopped(Exception):
    """The work is no longer wanted."""


class Workers:
    """Threads that do not keep the process alive: an answer that is waited for may take minutes.

    Attributes:
        count: how many there are at most.
    """

    def __init__(self, count: int) -> None:
        self.count = max(1, count)
        self._stop = threading.Event()

    def check(self) -> None:
        """Raise :class:`Stopped` when the work is no longer wanted; long work calls it now and then."""
        if self._stop.is_set():
            raise Stopped

    def each(
        self, items: Iterable[Item], work: Callable[[Item], Result]
    ) -> Iterator[tuple[Item, Result | None, BaseException | None]]:
        """Yield each item with what ``work`` returned or raised, as they get ready.

        Whoever stops iterating, as an interruption does, stops the work.
        """
        waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[Item, Result | None, BaseException | None]] = queue.SimpleQueue()
        count = 0
        for item in items:
            waiting.put(item)
            count += 1
        for _ in range(min(self.count, count)):
            threading.Thread(target=self._run, args=(waiting, done, work), daemon=True).start()
        try:
            for _ in range(count):
                yield done.get()
        except BaseException:
            self._stop.set()
            raise

    def _run(
        self,
        waiting: queue.SimpleQueue[Item],
        done: queue.SimpleQueue[tuple[Item, Result | None, BaseException | None]],
        work: Callable[[Item], Result],
    ) -> None:
        while not self._stop.is_set():
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((item, work(item), None))
            except BaseException as error:  # also who calls sys.exit: somebody waits for an answer
                done.put((item, None, error))
