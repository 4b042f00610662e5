"""Which modules wheels hold, from the list of files at the end of each wheel, and their licence, from the metadata
beside it: nothing else of a wheel is transferred.

Where from: the old lock, what another lock asked on this machine, the wheel cache or a local file, the index's web
server (range requests), or a download into the wheel cache. All these give the same answer.

Why not the library ``remotezip``: it reaches servers through ``requests``, which knows nothing of pip's certificates,
proxy and credentials.
"""

from __future__ import annotations

import io
import re
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from mfbazel.lock.errors import LockError
from mfbazel.lock.model import Contents
from mfbazel.lock.resolver.scratch import scratch
from mfbazel.lock.resolver.uv import FoundWheel, local_path
from mfbazel.lock.wheels.licenses import license_of
from mfbazel.lock.wheels.remembered import remember, remembered_contents
from mfbazel.lock.wheels.web import NoAnswerError, RangedFile, Web
from mfbazel.wheel.archive import DAMAGED
from mfbazel.wheel.fetch import FetchError, Wheel, cache_directory, fetch

_AT_ONCE = 8
_REPORT_SECONDS = 3.0
_INSTALLED = ("purelib", "platlib")
_MODULE = re.compile(r"(?P<name>[^.]+)(?P<suffix>\.pyc?|(\.(?:cpython-|abi3|pypy)[^.]*)?\.so)")
_OLD_NAMESPACE = re.compile(rb"declare_namespace|extend_path")
_OLD_NAMESPACE_BYTES = 2048


@dataclass
class Modules:
    """What wheels tell of themselves, by sha256. ``known`` starts with those of the old lock.

    Attributes:
        report: called with a line now and then when it takes long.
    """

    known: dict[str, Contents] = field(default_factory=dict)
    report: Callable[[str], None] = lambda _line: None
    web: Web = field(default_factory=Web)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def complete(self, wheels: Iterable[FoundWheel], sizes: Mapping[str, int]) -> Mapping[str, Contents]:
        """Return what ``wheels`` tell, by sha256. ``sizes``: of all of them, in bytes.

        Threads may call it at the same time: no wheel is read twice.

        Raises:
            LockError: a wheel had to be downloaded and could not, or is no archive.
        """
        with self._lock:
            missing = {wheel.sha256: wheel for wheel in wheels if wheel.sha256 not in self.known}
            said = time.monotonic()
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                futures = {pool.submit(self._find, wheel, sizes[sha]): sha for sha, wheel in missing.items()}
                for done, future in enumerate(as_completed(futures), 1):
                    self.known[futures[future]] = future.result()
                    if time.monotonic() - said >= _REPORT_SECONDS:
                        said = time.monotonic()
                        self.report(f"read the lists of files of {done} of {len(futures)} wheels")
            return self.known

    def _find(self, wheel: FoundWheel, size: int) -> Contents:
        known = remembered_contents(wheel.sha256)
        if known is None:
            known = self._ask(wheel, size)
            remember(wheel.sha256, size, known)
        return known

    def _ask(self, wheel: FoundWheel, size: int) -> Contents:
        local = local_path(wheel.url)
        cached = cache_directory() / wheel.sha256 / wheel.file
        for path in (local, cached):
            if path and path.is_file():
                return _of_file(path)
        try:
            with io.BufferedReader(RangedFile(self.web, wheel.url, size)) as stream, zipfile.ZipFile(stream) as archive:
                return _told(archive)
        except (NoAnswerError, *DAMAGED):
            return _download(wheel)


def _told(archive: zipfile.ZipFile) -> Contents:
    return Contents(modules_of(archive), license_of(archive))


def _of_file(path: Path) -> Contents:
    try:
        with zipfile.ZipFile(path) as archive:
            return _told(archive)
    except DAMAGED as error:
        raise LockError(f"{path}: cannot read the wheel: {error}. Remove the file and try again.") from error


def _download(found: FoundWheel) -> Contents:
    """Download ``found`` into the wheel cache, where the build will want it anyway, and read its list."""
    with scratch() as directory:
        try:
            wheel = Wheel(found.name, found.version, found.file, found.sha256)
            path = fetch(wheel, directory / found.file, index=found.origin)
        except FetchError as error:
            raise LockError(str(error)) from error
        return _of_file(path)


@dataclass
class _Directory:
    """A directory of a wheel, as it will lie in ``site-packages``."""

    directories: dict[str, _Directory] = field(default_factory=dict)
    modules: dict[str, zipfile.ZipInfo] = field(default_factory=dict)


def modules_of(archive: zipfile.ZipFile) -> tuple[str, ...]:
    """Return what can be imported after installing the wheel ``archive``, sorted.

    These are the names of top-level modules and packages. Of a namespace package (a directory without ``__init__``, or
    with one that declares it in the ways of ``pkgutil`` or ``pkg_resources``), which wheels share, the names inside are
    given instead: ``google.cloud.storage``. Extension modules count, and what lies in ``*.data/purelib`` and
    ``platlib`` (PyPA's binary distribution format).
    """
    root = _Directory()
    for info in archive.infolist():
        parts = _installed(info.filename)
        if parts:
            _enter(root, parts, info)
    return tuple(sorted(set(_names(root, "", archive))))


def _installed(path: str) -> list[str]:
    """Return the parts of ``path`` in ``site-packages``; none for what is installed elsewhere, or no module."""
    parts = path.split("/")
    if parts[0].endswith(".data"):
        parts = parts[2:] if len(parts) > 2 and parts[1] in _INSTALLED else []
    if not parts or parts[0].endswith(".dist-info"):
        return []
    return parts if all(part.isidentifier() for part in parts[:-1]) else []


def _enter(root: _Directory, parts: list[str], info: zipfile.ZipInfo) -> None:
    match = _MODULE.fullmatch(parts[-1])
    if not match or not match["name"].isidentifier() or "__pycache__" in parts:
        return
    if match["suffix"] == ".so" and match["name"].startswith("lib"):  # a library
        return
    for part in parts[:-1]:
        root = root.directories.setdefault(part, _Directory())
    root.modules[match["name"]] = info


def _names(directory: _Directory, prefix: str, archive: zipfile.ZipFile) -> Iterator[str]:
    yield from (f"{prefix}{name}" for name in directory.modules if name != "__init__")
    for name, inner in directory.directories.items():
        if "__init__" in inner.modules and not _is_old_namespace(inner, archive):
            yield f"{prefix}{name}"
        else:
            yield from _names(inner, f"{prefix}{name}.", archive)


def _is_old_namespace(directory: _Directory, archive: zipfile.ZipFile) -> bool:
    """Say whether the package's ``__init__.py`` shares it with other wheels; read only where it may be so."""
    info = directory.modules["__init__"]
    likely = len(directory.modules) == 1 and directory.directories and info.filename.endswith(".py")
    return bool(likely and 0 < info.file_size <= _OLD_NAMESPACE_BYTES and _OLD_NAMESPACE.search(archive.read(info)))
