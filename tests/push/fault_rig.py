"""Flows to push while things go wrong, and what has to be right after it."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.push_rig import find_crane, write_images_json, write_layout
from mfbazel import state
from mfbazel.errors import MfbazelError
from mfbazel.push.__main__ import main
from tests.push.faulty_proxy import FaultyProxy

_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Outcome:
    """How a push ended: ``code``, and what it printed; ``error`` is the message of a failure, or empty."""

    code: int
    out: str
    err: str
    error: str = ""


@dataclass
class Flow:
    """A flow's build output in a scratch directory.

    Attributes:
        root: the directory, which is the workspace too.
        repository: where it is pushed to.
        label: its label.
        layouts: by step.
        digests: of the images, by step.
        blobs: contents of all layers and configurations that it ever had, by digest.
        options: of every push.
    """

    root: Path
    repository: str
    label: str = "//ml:churn"
    layouts: dict[str, Path] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    options: tuple[str, ...] = ()

    def build(self, step: str, layers: Mapping[str, bytes]) -> None:
        """Build the image of a step, anew if it is there."""
        self.layouts[step] = self.root / "layouts" / step
        shutil.rmtree(self.layouts[step], ignore_errors=True)
        self.digests[step] = write_layout(self.layouts[step], layers)
        for path in (self.layouts[step] / "blobs" / "sha256").iterdir():
            if self.digests[step] != f"sha256:{path.name}":
                self.blobs[f"sha256:{path.name}"] = path.read_bytes()

    def layers(self, step: str) -> list[str]:
        """Return the digests of a step's layers."""
        manifest = self.layouts[step] / "blobs" / self.digests[step].replace(":", "/")
        return [layer["digest"] for layer in json.loads(manifest.read_bytes())["layers"]]

    def arguments(self, *options: str) -> list[str]:
        """Return the command line of a push."""
        self.root.mkdir(parents=True, exist_ok=True)
        images = write_images_json(self.root / "images.json", self.digests, self.repository, self.label)
        told = ["flow", f"--images={images}", f"--crane={find_crane()}", f"--workspace={self.root}"]
        return [*told, *(f"--image={step}={path}" for step, path in self.layouts.items()), *self.options, *options]

    def push(self, *options: str) -> Outcome:
        """Push within this process."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code, error = main(self.arguments(*options)), ""
            except MfbazelError as failed:
                code, error = 1, str(failed)
        return Outcome(code, out.getvalue(), err.getvalue(), error)

    def start(self, *options: str, variables: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a push as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "mfbazel.push", *self.arguments(*options)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **(variables or {})},
        )

    def push_apart(self, *options: str, variables: Mapping[str, str] | None = None, seconds: float = 120) -> Outcome:
        """Push in a process of its own."""
        return ended(self.start(*options, variables=variables), seconds)

    @property
    def record(self) -> Path:
        """Where the push is recorded."""
        return state.images_path(self.root, self.label)

    def recorded(self) -> bytes | None:
        """Return the record's bytes, ``None`` without one."""
        return self.record.read_bytes() if self.record.is_file() else None


def ended(process: subprocess.Popen[str], seconds: float = 120) -> Outcome:
    """Wait for a push's process."""
    with process:
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    failed = re.search(r"^error: (.*)", err, re.MULTILINE | re.DOTALL)
    return Outcome(process.returncode, out, err, failed[1].strip() if failed else "")


def count_events(proxy: FaultyProxy) -> list[int]:
    """Count the events of a proxy from now on, in the list's only element."""
    events, lock = [0], threading.Lock()

    def on_event() -> None:
        with lock:
            events[0] += 1

    proxy.on_event = on_event
    return events


def killed_at(flow: Flow, proxy: FaultyProxy, moment: int, later: float = 0.0) -> Outcome:
    """Push in a process, and kill it (SIGKILL) with an event of the proxy, or ``later`` by some seconds.

    Args:
        flow: what is pushed.
        proxy: what it goes through.
        moment: the number of the event, from 0; a push that makes fewer is left alone.
        later: 0: the event does not go on before the process is dead.
    """
    events, lock = [0], threading.Lock()
    started = threading.Event()
    processes: list[subprocess.Popen[str]] = []

    def kill() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(processes[0].pid, signal.SIGKILL)

    def on_event() -> None:
        started.wait()
        with lock:
            events[0] += 1
            if events[0] == moment + 1 and later:
                threading.Timer(later, kill).start()
            elif events[0] == moment + 1:
                kill()

    proxy.on_event = on_event
    processes.append(flow.start())
    started.set()
    outcome = ended(processes[0])
    proxy.on_event = lambda: None
    return outcome


def repository_name(text: str) -> str:
    """Return a name that depends on ``text`` and has nothing in it that a message may be searched for."""
    return "".join("ghijklmnopqrstuv"[int(digit, 16)] for digit in hashlib.sha256(text.encode()).hexdigest()[:12])


def wrong_record(flow: Flow, before: bytes | None) -> list[str]:
    """Say what is wrong with the record: it has to be what it was, or that of the flow's images as they are now."""
    found = flow.recorded()
    if found == before:
        return []
    try:
        content = json.loads(found or b"")
        steps = {step: entry["image"] for step, entry in content["steps"].items()}
    except (ValueError, LookupError, TypeError, AttributeError):
        return [f"images.json is neither old nor whole: {(found or b'')[:200]!r}"]
    wanted = {step: f"{flow.repository}@{digest}" for step, digest in flow.digests.items()}
    return [] if steps == wanted else [f"images.json names {steps} instead of {wanted}"]


def wrong_registry(host: str, path: str, digests: Sequence[str] = ()) -> list[str]:
    """Say what is missing or damaged in a repository: below any of its tags, and below these digests.

    Args:
        host: of the registry itself, plain HTTP.
        path: the repository.
        digests: images that have to be there.
    """
    return list(_Audit(host, path).run(digests))


class _Audit:
    """Reads all that can be reached in a repository."""

    def __init__(self, host: str, path: str) -> None:
        self._connection = http.client.HTTPConnection(host, timeout=30)
        self._path = path
        self._seen: set[str] = set()

    def run(self, digests: Sequence[str]) -> Iterator[str]:
        status, body, _ = self._get("tags/list")
        tags = (json.loads(body).get("tags") or []) if status == 200 else []
        for name in [*tags, *digests]:
            yield from self._manifest(name)
        self._connection.close()

    def _get(self, what: str) -> tuple[int, bytes, Mapping[str, str]]:
        self._connection.request("GET", f"/v2/{self._path}/{what}", headers={"Accept": ", ".join(_INDEXES)})
        answer = self._connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())

    def _manifest(self, name: str) -> Iterator[str]:
        status, body, headers = self._get(f"manifests/{name}")
        if status != 200:
            yield f"{self._path}: the manifest {name} is missing ({status})"
            return
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if digest != headers.get("Docker-Content-Digest", digest) or (_DIGEST.fullmatch(name) and digest != name):
            yield f"{self._path}: the manifest {name} has the digest {digest}"
            return
        if digest in self._seen:
            return
        self._seen.add(digest)
        try:
            content: dict[str, Any] = json.loads(body)
        except ValueError:
            yield f"{self._path}: the manifest {name} is none: {body[:200]!r}"
            return
        for child in content.get("manifests", []):
            yield from self._manifest(child["digest"])
        for blob in [*([content["config"]] if "config" in content else []), *content.get("layers", [])]:
            yield from self._blob(name, blob["digest"])

    def _blob(self, manifest: str, digest: str) -> Iterator[str]:
        if digest in self._seen:
            return
        self._seen.add(digest)
        status, body, _ = self._get(f"blobs/{digest}")
        if status != 200:
            yield f"{self._path}: the blob {digest} of {manifest} is missing ({status})"
        elif f"sha256:{hashlib.sha256(body).hexdigest()}" != digest:
            yield f"{self._path}: the blob {digest} of {manifest} has other bytes"


def wrong_state(flow: Flow, host: str, before: bytes | None) -> list[str]:
    """Say what is wrong after a push, whether it failed or was killed: the record, and what can be reached."""
    pushed = list(flow.digests.values()) if flow.recorded() not in (before, None) else []
    return [*wrong_record(flow, before), *wrong_registry(host, flow.repository.partition("/")[2], pushed)]


def sent_again(flow: Flow, proxy: FaultyProxy) -> list[str]:
    """Say which blobs of the images were sent once more although the registry had them whole."""
    path = flow.repository.partition("/")[2]
    whole = [
        session.digest for session in list(proxy.sessions.values()) if session.digest and session.repository == path
    ]
    return [f"{digest} arrived whole {whole.count(digest)} times" for digest in flow.blobs if whole.count(digest) > 1]


def assert_whole(
    flow: Flow,
    proxy: FaultyProxy,
    first: Outcome,
    before: bytes | None,
    *,
    says: Sequence[str] = (),
    again: Sequence[str] = (),
    at_first: bool | None = None,
    apart: bool = False,
) -> None:
    """Check all that has to hold after a push during which something went wrong.

    A second push, without faults, completes; no blob that had arrived is sent again, and no byte of one where the proxy
    keeps upload sessions; images.json is old and whole, or new and whole; what a tag names is there; the error of the
    first push, if it failed, names the registry, the repository and what ``says`` has (regular expressions).

    Args:
        flow: what was pushed.
        proxy: what it went through.
        first: how the push ended.
        before: the record's bytes before it.
        says: what the error says besides: the blob, and what to do next.
        again: the options of the second push.
        at_first: whether the first push has to complete, or must not.
        apart: others, whom this user knows nothing of, pushed the same: nothing is asked of what was sent twice.
    """
    if at_first is not None:
        assert (first.code == 0) is at_first, first
    if first.code:
        assert flow.recorded() == before, "a failed push has changed images.json"
        for wanted in (re.escape(proxy.host), re.escape(flow.repository), *says):
            assert re.search(wanted, first.error), f"{wanted!r} is not in {first.error!r}"
    assert wrong_state(flow, proxy.upstream, before) == []
    proxy.script()
    second = flow.push(*again)
    assert second.code == 0, second
    assert flow.recorded() is not None
    assert wrong_record(flow, None) == []
    path = flow.repository.partition("/")[2]
    assert wrong_registry(proxy.upstream, path, list(flow.digests.values())) == []
    if apart:
        return
    assert sent_again(flow, proxy) == []
    if proxy.keeps_sessions:
        assert proxy.twice(flow.blobs) == 0, f"{proxy.twice(flow.blobs)} bytes were sent twice"
