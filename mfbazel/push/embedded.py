"""The registry that mfbazel starts where no repository is configured: ``crane registry serve`` on loopback.

It runs detached and stays until it is stopped. crane keeps blobs on disk, in the store, but manifests in memory only
(crane 0.20); mfbazel therefore keeps a copy of every manifest pushed and gives them back after a restart, so that
references by digest stay valid as long as the port does.

crane's registry holds every upload in memory until it is whole, at up to three times its size; blobs are therefore
copied into the store, and the push then finds them there (a HEAD of the blob). Were a later crane to keep its blobs
elsewhere, it would not find them, and the push would upload them.

The store directory holds ``blobs/`` (crane's), ``manifests/<repository path>/<hex>``, ``registry.json`` (which process
serves, on which port), ``registry.log``, ``lock`` and ``incoming/`` (blobs being copied).
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from mfbazel.push.errors import PushError
from mfbazel.registry.upload import OnPosition, Source
from mfbazel.state import write_atomically

_HOST = "127.0.0.1"
_READY_SECONDS = 15.0
_STOP_SECONDS = 10.0
_ANSWER_SECONDS = 5.0
_COPY_BYTES = 1 << 20
_START_ATTEMPTS = 3
_MARKER_REPOSITORY = "mfbazel/marker"
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Running:
    """A registry that serves, as recorded in ``registry.json``.

    Attributes:
        pid: its process.
        port: its TCP port on 127.0.0.1.
        process_start: when that process started, as the system tells it; with ``pid`` it names one process.
        marker: the digest of a random blob in the store; only a registry on this store has it.
    """

    pid: int
    port: int
    process_start: str
    marker: str

    @property
    def host(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"{_HOST}:{self.port}"


@dataclass(frozen=True)
class Ensured:
    """What :meth:`EmbeddedRegistry.ensure` found or did.

    Attributes:
        running: the registry that serves now.
        started: whether it was started just now.
        former_port: the port of its predecessor when that one was taken by another program, else ``None``.
    """

    running: Running
    started: bool
    former_port: int | None = None


class EmbeddedRegistry:
    """The registry on the store directory ``store``; it need not exist."""

    def __init__(self, store: Path) -> None:
        self.store = store.absolute()

    def status(self) -> Running | None:
        """Return the registry that serves this store now, ``None`` when there is none."""
        recorded = self._recorded()
        return recorded if recorded and _serves(recorded) else None

    def ensure(self, crane: Path) -> Ensured:
        """Start the registry unless it serves already; two calls at once start one.

        Raises:
            PushError: the store cannot be written, or crane does not come up.
        """
        with self._locked():
            recorded = self._recorded()
            if recorded and _serves(recorded):
                return Ensured(recorded, started=False)
            if recorded:
                _end(recorded)
            running = self._start(crane, recorded.port if recorded else None)
            self._give_back_manifests(running)
            former = recorded.port if recorded and recorded.port != running.port else None
            return Ensured(running, started=True, former_port=former)

    def stop(self) -> Running | None:
        """Stop the registry and return what was stopped; blobs, manifests and the port's number are kept.

        Raises:
            PushError: it serves, but its process is not visible from here, or does not end.
        """
        if not self.store.is_dir():
            return None
        with self._locked():
            recorded = self._recorded()
            if not recorded or not (_is_same_process(recorded) or _serves(recorded)):
                return None
            if not _end(recorded) or _serves(recorded):
                raise PushError(
                    f"the embedded registry on {recorded.host} cannot be stopped from here: process {recorded.pid} is "
                    "not visible or does not end. Stop it where it was started."
                )
            return recorded

    def keep_manifest(self, repository_path: str, digest: str, content: bytes) -> None:
        """Remember one manifest, which was pushed to ``repository_path``, for the next start.

        Raises:
            PushError: the store cannot be written.
        """
        directory = self.store / "manifests" / repository_path
        with self._usable():
            write_atomically(directory / digest.removeprefix("sha256:"), content.decode())

    def has_blob(self, digest: str, size: int) -> bool:
        """Whether the store has a blob, of this size in bytes."""
        target = self._blob(digest)
        return target.exists() and target.stat().st_size == size

    def place_blob(self, source: Source, on_position: OnPosition) -> bool:
        """Copy a blob that the store lacks into it; return whether that was done.

        A blob whose bytes do not have its digest is left out: the registry will refuse it by name.

        Raises:
            PushError: the store cannot be written, or its disk is full.
        """
        if self.has_blob(source.digest, source.size):
            return False
        target, incoming = self._blob(source.digest), self.store / "incoming"
        with self._usable():
            for needed in (incoming, target.parent):
                needed.mkdir(parents=True, exist_ok=True)
            descriptor, beside = tempfile.mkstemp(dir=incoming)
            try:
                with os.fdopen(descriptor, "wb") as output, source.open(0) as content:
                    right = _copy(content, output, on_position) == source.digest
                if right:
                    Path(beside).replace(target)
                return right
            finally:
                Path(beside).unlink(missing_ok=True)

    def _blob(self, digest: str) -> Path:
        return self.store / "blobs" / "sha256" / digest.removeprefix("sha256:")

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Turn failures of the disk into an error that says what to do."""
        try:
            yield
        except OSError as error:
            raise PushError(
                f"the embedded registry's store {self.store} cannot be used: {error.strerror or error}. Make room or "
                "allow writing there, name another with --registry-store, or configure a repository."
            ) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the store's lock (``flock``; the system frees it when the process ends)."""
        with self._usable():
            (self.store / "blobs").mkdir(parents=True, exist_ok=True)
            with (self.store / "lock").open("w") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                yield

    def _recorded(self) -> Running | None:
        """Read ``registry.json``; an unreadable one counts as none."""
        try:
            return Running(**json.loads((self.store / "registry.json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def _start(self, crane: Path, port: int | None) -> Running:
        """Start crane, on ``port`` when it is free."""
        shutil.rmtree(self.store / "incoming", ignore_errors=True)  # what an interrupted copy left
        candidates = ([port] if port and _is_free(port) else []) + [0] * _START_ATTEMPTS
        for candidate in candidates:
            running = self._start_on(crane, candidate or _free_port())
            if running:
                return running
        raise PushError(
            f"the embedded registry did not come up: `{crane} registry serve`. Its log is {self.store}/registry.log "
            f"and ends with: {self._log_end()!r}. Configure a repository, or name another crane with --crane."
        )

    def _start_on(self, crane: Path, port: int) -> Running | None:
        """Start crane on ``port`` and record it; return ``None`` when it ends or does not answer in time.

        One that is not recorded, since the disk is full or the person interrupts, would run on unknown: it is ended.
        """
        command = [str(crane), "registry", "serve", "--address", f"{_HOST}:{port}", "--disk", f"{self.store}/blobs"]
        environ = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        with (self.store / "registry.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=environ,
                start_new_session=True,
                close_fds=True,
            )
        running = None
        try:
            running = self._recorded_start(process, port)
        finally:
            if not running:
                process.kill()
                process.wait()
        return running

    def _recorded_start(self, process: subprocess.Popen[bytes], port: int) -> Running | None:
        """Wait until the process answers on ``port``, and record it."""
        deadline = time.monotonic() + _READY_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if _status("GET", f"http://{_HOST}:{port}/v2/") == 200:
                if running := self._running(process.pid, port):
                    write_atomically(self.store / "registry.json", json.dumps(asdict(running), indent=2) + "\n")
                return running
            time.sleep(0.02)
        return None

    def _running(self, pid: int, port: int) -> Running | None:
        """Describe the process ``pid`` that answers on ``port``, once it proved to serve this store."""
        content = secrets.token_hex(16).encode()
        marker = _digest(content)
        address = f"http://{_HOST}:{port}/v2/{_MARKER_REPOSITORY}/blobs/uploads/?digest={marker}"
        running = Running(pid, port, _process_start(pid) or "", marker)
        if _status("POST", address, content, "application/octet-stream") != 201 or not running.process_start:
            return None
        return running

    def _give_back_manifests(self, running: Running) -> None:
        """Upload the manifests kept, images before indexes; one that is damaged or lacks a blob is forgotten."""
        directory = self.store / "manifests"
        files = [file for file in directory.rglob("*") if file.is_file() and not file.name.startswith(".")]
        kept = [(file, _kept_manifest(file)) for file in sorted(files)]
        for file, manifest in sorted(kept, key=lambda entry: entry[1] is not None and entry[1].is_index):
            name = file.parent.relative_to(directory)
            if not (manifest and _give_back(f"http://{running.host}/v2/{name}", manifest)):
                file.unlink()

    def _log_end(self) -> str:
        """Return the last line of crane's log."""
        try:
            lines = (self.store / "registry.log").read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""


def _copy(content: BinaryIO, output: BinaryIO, on_position: OnPosition) -> str:
    """Copy a stream; return the digest of its bytes."""
    digest = hashlib.sha256()
    position = 0
    while data := content.read(_COPY_BYTES):
        digest.update(data)
        output.write(data)
        position += len(data)
        on_position(position)
    return f"sha256:{digest.hexdigest()}"


@dataclass(frozen=True)
class _Kept:
    """A manifest that was kept: its ``digest``, bytes, type, and digests of the ``parts`` that it refers to."""

    digest: str
    data: bytes
    media_type: str
    is_index: bool
    parts: tuple[str, ...]


def _kept_manifest(file: Path) -> _Kept | None:
    """Read a manifest that was kept; ``None`` when it is none (any more)."""
    try:
        data = file.read_bytes()
        content = json.loads(data)
        is_index = "manifests" in content
        descriptors = content["manifests"] if is_index else [content["config"], *content["layers"]]
        parts = tuple(str(descriptor["digest"]) for descriptor in descriptors)
        default = f"application/vnd.oci.image.{'index' if is_index else 'manifest'}.v1+json"
        return _Kept(f"sha256:{file.name}", data, str(content.get("mediaType") or default), is_index, parts)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _give_back(address: str, manifest: _Kept) -> bool:
    """Upload a manifest to the repository at ``address``, if the registry has all that it refers to."""
    kind = "manifests" if manifest.is_index else "blobs"
    if any(_status("HEAD", f"{address}/{kind}/{part}") != 200 for part in manifest.parts):
        return False
    return _status("PUT", f"{address}/manifests/{manifest.digest}", manifest.data, manifest.media_type) == 201


def find_crane(told: str | None) -> Path:
    """Return the absolute path of crane: ``told`` (a path or a name on PATH), else ``crane`` on PATH.

    Raises:
        PushError: there is none.
    """
    found = shutil.which(told or "crane")
    if not found:
        raise PushError(
            f"crane, which serves the embedded registry, was not found: {told or 'crane'!r} is not an executable file "
            "or a program on PATH. Install crane (Debian: `apt install crane`), name it with --crane, or configure a "
            "repository."
        )
    return Path(os.path.abspath(found))  # noqa: PTH100 - a symlink to crane must stay one


def _serves(running: Running) -> bool:
    """Whether the recorded registry answers, and with the content of this store."""
    return _status("HEAD", f"http://{running.host}/v2/{_MARKER_REPOSITORY}/blobs/{running.marker}") == 200


def _status(method: str, address: str, data: bytes | None = None, media_type: str = "") -> int | None:
    """Return the status of one request to loopback, ``None`` without an answer. Proxies are not used."""
    headers = {"Content-Type": media_type} if media_type else {}
    request = urllib.request.Request(address, data=data, method=method, headers=headers)
    try:
        with _opener.open(request, timeout=_ANSWER_SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except (OSError, ValueError, http.client.HTTPException):  # nobody there, or not one who speaks HTTP
        return None


def _digest(content: bytes) -> str:
    """Return ``sha256:…`` of ``content``."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _end(running: Running) -> bool:
    """End the recorded process, if it is still the same one; return whether it is gone."""
    if not _is_same_process(running):
        return True
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(running.pid, number)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        deadline = time.monotonic() + _STOP_SECONDS / 2
        while time.monotonic() < deadline:
            if not _is_same_process(running):
                return True
            time.sleep(0.02)
    return False


def _is_same_process(running: Running) -> bool:
    """Whether the process that was recorded still runs (its number may have gone to another one)."""
    return _process_start(running.pid) == running.process_start


def _process_start(pid: int) -> str | None:
    """Return when the process started, as text that tells it from any other with its number; ``None`` if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None if Path("/proc/self/stat").exists() else _process_start_ps(pid)
    # proc_pid_stat(5): the name in parentheses may hold anything; after it, field 3 is the state, field 22 the start.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else f"{_boot()}-{fields[19]}"


def _boot() -> str:
    """Return what tells this boot of the system from others."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "boot"


def _process_start_ps(pid: int) -> str | None:
    """The same where there is no /proc (macOS)."""
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except OSError:
        return None
    state, _, start = done.stdout.strip().partition(" ")
    return None if done.returncode or state.startswith("Z") else start.strip()


def _is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])
