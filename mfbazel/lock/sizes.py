"""How large wheels are: from the index, the old lock, the wheel cache, the index's web server, or a download.

The planner needs sizes, and an index need not tell them. All these sources give the same number.
"""

from __future__ import annotations

import http.client
import os
import ssl
import tempfile
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mfbazel.lock.errors import LockError
from mfbazel.lock.indexes import pip_settings
from mfbazel.lock.uv import FoundWheel, local_path
from mfbazel.wheel.fetch import FetchError, Wheel, cache_directory, fetch

_TIMEOUT_SECONDS = 20.0
_AT_ONCE = 4


@dataclass
class Sizes:
    """Sizes in bytes by sha256. ``known`` starts with those of the old lock."""

    known: dict[str, int] = field(default_factory=dict)
    download: Callable[[FoundWheel], int] = field(default=lambda wheel: _download(wheel))

    def complete(self, wheels: Iterable[FoundWheel]) -> Mapping[str, int]:
        """Return the sizes of ``wheels`` by sha256.

        Raises:
            LockError: a wheel had to be downloaded and could not.
        """
        missing: dict[str, FoundWheel] = {}
        for wheel in wheels:
            if wheel.size >= 0:
                self.known[wheel.sha256] = wheel.size
            elif wheel.sha256 not in self.known:
                missing[wheel.sha256] = wheel
        context = _tls()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = pool.map(lambda wheel: self._find(wheel, context), missing.values())
            self.known.update(zip(missing, found, strict=True))
        return self.known

    def _find(self, wheel: FoundWheel, context: ssl.SSLContext) -> int:
        local = local_path(wheel.url)
        cached = cache_directory() / wheel.sha256 / wheel.file
        for path in (local, cached):
            if path and path.is_file():
                return path.stat().st_size
        size = _ask(wheel.url, context)
        return self.download(wheel) if size is None else size


def _tls() -> ssl.SSLContext:
    certificates = pip_settings().get("cert") or os.environ.get("SSL_CERT_FILE")
    try:
        return ssl.create_default_context(cafile=certificates or None)
    except OSError:
        return ssl.create_default_context()


def _ask(url: str, context: ssl.SSLContext) -> int | None:
    """Return the length that the web server gives for ``url`` (HTTP HEAD), or ``None``."""
    if not url.startswith(("http://", "https://")):
        return None
    request = urllib.request.Request(url, method="HEAD", headers={"Accept-Encoding": "identity"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS, context=context) as response:
            length = response.headers.get("Content-Length", "")
            other = response.headers.get("Content-Encoding", "identity") != "identity"
            other = other or response.headers.get_content_type() == "text/html"  # a login page
    except (OSError, http.client.HTTPException, ValueError):
        return None
    return int(length) if length.isdigit() and int(length) > 0 and not other else None


def _download(found: FoundWheel) -> int:
    """Download ``found`` into the wheel cache, where the build will want it anyway, and measure it."""
    with tempfile.TemporaryDirectory(prefix="mfbazel-wheel-") as directory:
        try:
            path = fetch(Wheel(found.name, found.version, found.file, found.sha256), Path(directory) / found.file)
        except FetchError as error:
            raise LockError(str(error)) from error
        return path.stat().st_size
