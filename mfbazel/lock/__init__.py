"""Locks: resolving what environments require, to the exact wheel per platform, and writing it down.

``python -m mfbazel.lock flow|test|imports|environments`` is the front; docs/design/interfaces.md specifies the
directory.
"""

from __future__ import annotations

from mfbazel.lock.document import Lock, build, read
from mfbazel.lock.errors import LockError
from mfbazel.lock.model import (
    LAUNCHER,
    RESOLVERS,
    Environment,
    LockedEnvironment,
    LockedWheel,
    Pin,
    Platform,
    Settings,
    Wanted,
)
from mfbazel.lock.resolve import Locker

__all__ = [
    "LAUNCHER",
    "RESOLVERS",
    "Environment",
    "Lock",
    "LockError",
    "LockedEnvironment",
    "LockedWheel",
    "Locker",
    "Pin",
    "Platform",
    "Settings",
    "Wanted",
    "build",
    "read",
]
