"""Asking uv for the wheels of several resolutions at once.

A run of uv costs about as much for five environments as for one. Whoever asks while uv is running for the same target
is answered by the next run, together with all others who wait; and what has been found is not asked for again.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from mfbazel.lock.model import Index, Pin, Platform
from mfbazel.lock.resolver.request import Request, ResolverFailure
from mfbazel.lock.resolver.uv import FoundWheel, Uv

_Version = tuple[str, str]


@dataclass(frozen=True)
class _Target:
    """What decides, besides name and version, which wheel is found."""

    python: str
    platform: Platform
    glibc: str
    indexes: tuple[Index, ...]


@dataclass
class _Desk:
    """What is known of one target and asked for.

    ``running``: asked by the run that is going on; ``alone``: asking for several failed.
    """

    found: dict[_Version, FoundWheel] = field(default_factory=dict)
    wanted: set[_Version] = field(default_factory=set)
    running: set[_Version] = field(default_factory=set)
    alone: bool = False

    def take(self) -> dict[str, str]:
        """Return what the next run asks for, one version of each distribution; the others stay for the one after."""
        batch: dict[str, str] = {}
        for name, version in sorted(self.wanted):
            batch.setdefault(name, version)
        self.running = set(batch.items())
        self.wanted -= self.running
        return batch


@dataclass
class WheelFinder:
    """Finds the wheels that pins mean; safe to use from several threads."""

    uv: Uv
    _desks: dict[_Target, _Desk] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def wheels(self, request: Request, pins: Mapping[str, Pin]) -> dict[str, FoundWheel]:
        """See :meth:`mfbazel.lock.resolver.uv.Uv.wheels`."""
        if request.local or request.build or not pins:
            return self.uv.wheels(request, pins)
        target = _Target(request.python, request.platform, request.glibc, request.indexes)
        needed = {name: (name, pin.version) for name, pin in pins.items()}
        with self._changed:
            desk = self._desks.setdefault(target, _Desk())
            desk.wanted |= set(needed.values()) - desk.found.keys() - desk.running
        while True:
            with self._changed:
                self._changed.wait_for(lambda: not desk.running)
                if all(version in desk.found for version in needed.values()):
                    return {name: desk.found[version] for name, version in needed.items()}
                if desk.alone:
                    break
                batch = desk.take()
            self._run(request, desk, batch)
        # Whose pin it is that has no wheel is for each to find out.
        return self.uv.wheels(request, pins)

    def _run(self, request: Request, desk: _Desk, batch: Mapping[str, str]) -> None:
        found: dict[str, FoundWheel] = {}
        failed = True
        try:
            found = self.uv.wheels(request, {name: Pin(name, version) for name, version in batch.items()})
            failed = found.keys() != batch.keys()
        except ResolverFailure:
            pass
        finally:
            with self._changed:
                desk.found.update(((name, batch[name]), wheel) for name, wheel in found.items())
                desk.alone = desk.alone or failed
                desk.running = set()
                self._changed.notify_all()
