"""How large wheels are: from the index, the old lock, the wheel cache, the index's web server, or a download.

The planner needs sizes, and an index need not tell them. All these sources give the same number.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from mfbazel.lock.errors import LockError
from mfbazel.lock.resolver.scratch import scratch
from mfbazel.lock.resolver.uv import FoundWheel, local_path
from mfbazel.lock.wheels.remembered import remembered_size
from mfbazel.lock.wheels.web import Web
from mfbazel.wheel.fetch import FetchError, Wheel, cache_directory, fetch

_AT_ONCE = 4


@dataclass
class Sizes:
    """Sizes in bytes by sha256; safe to use from several threads, a wheel is asked for once.

    ``known`` starts with those of the old lock.
    """

    known: dict[str, int] = field(default_factory=dict)
    download: Callable[[FoundWheel], int] = field(default=lambda wheel: _download(wheel))
    web: Web = field(default_factory=Web)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def complete(self, wheels: Iterable[FoundWheel]) -> Mapping[str, int]:
        """Return the sizes of ``wheels`` by sha256.

        Raises:
            LockError: a wheel had to be downloaded and could not.
        """
        with self._lock, ThreadPoolExecutor(_AT_ONCE) as pool:
            missing: dict[str, FoundWheel] = {}
            for wheel in wheels:
                if wheel.size >= 0:
                    self.known[wheel.sha256] = wheel.size
                elif wheel.sha256 not in self.known:
                    missing[wheel.sha256] = wheel
            self.known.update(zip(missing, pool.map(self._find, missing.values()), strict=True))
            return self.known

    def _find(self, wheel: FoundWheel) -> int:
        known = remembered_size(wheel.sha256)
        if known is not None:
            return known
        local = local_path(wheel.url)
        cached = cache_directory() / wheel.sha256 / wheel.file
        for path in (local, cached):
            if path and path.is_file():
                return path.stat().st_size
        size = self.web.size(wheel.url)
        return self.download(wheel) if size is None else size


def _download(found: FoundWheel) -> int:
    """Download ``found`` into the wheel cache, where the build will want it anyway, and measure it."""
    with scratch() as directory:
        try:
            wheel = Wheel(found.name, found.version, found.file, found.sha256)
            path = fetch(wheel, directory / found.file, index=found.origin)
        except FetchError as error:
            raise LockError(str(error)) from error
        return path.stat().st_size
