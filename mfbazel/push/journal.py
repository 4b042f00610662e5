"""Uploads that were begun, remembered between runs in the cache directory: what arrived is not sent again.

A file per registry, repository and blob. It holds an address of the registry and a number, nothing secret; it is
readable for its owner alone all the same.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mfbazel.registry.upload import Session

_KEPT_SECONDS = 7 * 24 * 3600.0  # registries end sessions after about a week
_IDLE_SECONDS = 60.0
_POLL_SECONDS = 0.1


class Journal:
    """Remembers sessions in the directory ``directory``, which need not exist; see :class:`mfbazel.registry.Sessions`.

    A directory that cannot be used is no reason to fail: then nothing is remembered.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def recall(self, host: str, path: str, digest: str) -> Session | None:
        """Return the session of a blob, ``None`` without a usable one."""
        file = self._file(host, path, digest)
        try:
            if time.time() - file.stat().st_mtime > _KEPT_SECONDS:
                return None
            content = json.loads(file.read_bytes())
            return Session(str(content["location"]), int(content["offset"]))
        except (OSError, ValueError, LookupError, TypeError, ArithmeticError):
            return None

    def remember(self, host: str, path: str, digest: str, session: Session) -> None:
        """Keep a session, in place of an earlier one."""
        file = self._file(host, path, digest)
        content = {"repository": f"{host}/{path}", "digest": digest, "offset": session.offset}
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, beside = tempfile.mkstemp(dir=file.parent)
            try:
                with os.fdopen(descriptor, "w") as stream:
                    json.dump({**content, "location": session.location}, stream)
                Path(beside).replace(file)
            except BaseException:
                Path(beside).unlink(missing_ok=True)
                raise

    def forget(self, host: str, path: str, digest: str) -> None:
        """Drop the session of a blob, if there is one."""
        with suppress(OSError):
            self._file(host, path, digest).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what is too old to be taken up."""
        with suppress(OSError):
            for file in self._directory.iterdir():
                if time.time() - file.stat().st_mtime > _KEPT_SECONDS:
                    file.unlink(missing_ok=True)

    @contextmanager
    def alone(self, host: str, digest: str) -> Iterator[None]:
        """Keep other processes of this user from sending the same blob to the same registry meanwhile.

        Waits for one that sends it, as long as it keeps the lock's file young (:meth:`busy`); one that stands still
        is not waited for.
        """
        lock = self._directory / f"{_name(host, '', digest)}.lock"
        with suppress(OSError):
            lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(lock):
            self.busy(host, digest)
            try:
                yield
            finally:
                with suppress(OSError):
                    lock.unlink(missing_ok=True)

    def busy(self, host: str, digest: str) -> None:
        """Say that the blob is still being sent."""
        with suppress(OSError):
            os.utime(self._directory / f"{_name(host, '', digest)}.lock")

    def _file(self, host: str, path: str, digest: str) -> Path:
        return self._directory / f"{_name(host, path, digest)}.json"


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """Hold the lock; or go on without where that cannot be, or its holder stands still."""
    while True:
        try:
            stream = lock.open("a")
        except OSError:
            yield
            return
        with stream:
            if (_is_taken(stream.fileno()) and _is_of(stream.fileno(), lock)) or _stands_still(lock):
                yield
                return
        time.sleep(_POLL_SECONDS)


def _is_taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_of(descriptor: int, lock: Path) -> bool:
    """Whether the open file still is the lock's: who is done removes it, and the next one makes another."""
    try:
        return os.path.samestat(os.fstat(descriptor), lock.stat())
    except OSError:
        return False


def _stands_still(lock: Path) -> bool:
    try:
        return time.time() - lock.stat().st_mtime > _IDLE_SECONDS
    except OSError:
        return False


def _name(host: str, path: str, digest: str) -> str:
    return hashlib.sha256(f"{host}/{path}@{digest}".encode()).hexdigest()[:32]
