"""Whether a version is affected: the algorithm of the OSV schema ("Evaluation"), with versions compared by PEP 440.

A local version (``2.0+cu118``) counts as its public one, unless the advisory names a local version itself. A version
that PEP 440 does not know is older than all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from packaging.version import InvalidVersion, Version

from mfbazel.audit.advisory import Affected, Event

_ALL = "*"


def affects(affected: Affected, version: Version) -> bool:
    """Say whether ``version`` of the distribution is one of those that ``affected`` is about."""
    listed = any(_equal(version, text) for text in affected.versions)
    return listed or any(_within(events, version) for events in affected.ranges)


def fixes(affected: Affected, version: Version) -> list[str]:
    """Return the version that fixes each range that ``version`` is in: of each the oldest after ``version``.

    Where ``version`` is listed and in no range, all ranges count.
    """
    ranges = [events for events in affected.ranges if _within(events, version)] or affected.ranges
    found = []
    for events in ranges:
        newer = [parsed for event in events if event.kind == "fixed" and (parsed := _parsed(event.version))]
        oldest = min((fixed for fixed in newer if fixed > version), default=None)
        found += [str(oldest)] if oldest else []
    return found


def _within(events: Sequence[Event], version: Version) -> bool:
    limits = [event.version for event in events if event.kind == "limit"]
    if limits and not any(limit == _ALL or _compare(version, limit) < 0 for limit in limits):
        return False
    inside = False
    for event in sorted(events, key=_order):
        compared = _compare(version, event.version)
        if event.kind == "introduced" and compared >= 0:
            inside = True
        elif (event.kind == "fixed" and compared >= 0) or (event.kind == "last_affected" and compared > 0):
            inside = False
    return inside


def _order(event: Event) -> tuple[bool, Version]:
    parsed = _parsed(event.version)
    return parsed is not None, parsed or Version("0")


def _compare(version: Version, text: str) -> int:
    """Return -1, 0 or 1 as ``version`` is older than, the same as, or newer than ``text``."""
    other = _parsed(text)
    if other is None:
        return 1
    own = version if other.local else _public(version)
    return (own > other) - (own < other)


def _equal(version: Version, text: str) -> bool:
    return _parsed(text) is not None and _compare(version, text) == 0


@lru_cache(maxsize=65536)
def _parsed(text: str) -> Version | None:
    """Return the version ``text``; ``None`` for what is older than all versions, as ``introduced`` 0 is."""
    try:
        return None if text == "0" else Version(text)
    except InvalidVersion:
        return None


@lru_cache(maxsize=4096)
def _public(version: Version) -> Version:
    return Version(version.public) if version.local else version
