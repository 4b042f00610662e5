"""Uploads that an earlier run began, as the journal remembers them: taken up, or given up without harm."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mfbazel.push import journal as journal_module
from mfbazel.push.journal import Journal
from mfbazel.registry import Client, Kind, RegistryError
from mfbazel.registry import upload as upload_module
from mfbazel.registry.client import digest_of
from mfbazel.registry.upload import Outcome, Session, Source, Uploaded, Uploader
from tests.registry.gate import Asked, Gate, Reply, without_credentials

BLOB = b"0123456789" * 10
DIGEST = digest_of(BLOB)


@pytest.fixture(autouse=True)
def nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_credentials(tmp_path, monkeypatch)
    monkeypatch.setattr(upload_module, "_WHOLE", 1)


class Uploads:
    """A registry that keeps uploads: what arrived, by the number of the upload.

    Attributes:
        kept: bytes by the upload's address.
        status: of the answer to who asks for an upload, or sends to one that is in ``kept`` from the start.
    """

    def __init__(self, status: int) -> None:
        self.kept: dict[str, bytes] = {}
        self.blobs: list[bytes] = []
        self.status = status

    def rule(self, asked: Asked) -> Reply:
        """See :data:`tests.registry.gate.Rule`."""
        path = asked.path.partition("?")[0]
        if path == "/v2/":
            return Reply(200)
        if asked.method == "HEAD":
            return Reply(404)
        if asked.method == "POST":
            path = f"/v2/ml/x/blobs/uploads/{len(self.kept)}"
            self.kept[path] = b""
        elif path not in self.kept:
            return Reply(self.status)
        self.kept[path] += asked.body
        if asked.method == "PUT":
            self.blobs.append(self.kept.pop(path))
            return Reply(201)
        headers = {"Location": path, "Range": f"0-{len(self.kept[path]) - 1}"}
        return Reply(202 if asked.method in ("POST", "PATCH") else 204, b"", headers)


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as made:
        yield made


def put(gate: Gate, journal: Journal) -> Uploaded:
    source = Source(DIGEST, len(BLOB), lambda offset: io.BytesIO(BLOB[offset:]))
    return Uploader(Client(gate.host), journal, 50).put("ml/x", source, lambda _: None)


# 404 is what the specification says; some say of an address that is too old that it is not allowed, or gone.
@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 416])
def test_an_upload_that_the_registry_lets_nobody_take_up_is_begun_anew(tmp_path: Path, gate: Gate, status: int) -> None:
    uploads = Uploads(status)
    gate.rule = uploads.rule
    journal = Journal(tmp_path / "uploads")
    journal.remember(gate.host, "ml/x", DIGEST, Session(f"http://{gate.host}/v2/ml/x/blobs/uploads/old", 50))
    assert put(gate, journal).outcome is Outcome.SENT
    assert uploads.blobs == [BLOB]
    assert journal.recall(gate.host, "ml/x", DIGEST) is None


def test_a_refusal_that_lasts_keeps_what_arrived_for_the_next_run(tmp_path: Path, gate: Gate) -> None:
    gate.rule = lambda asked: Reply({"/v2/": 200}.get(asked.path, 404 if asked.method == "HEAD" else 403))
    journal = Journal(tmp_path / "uploads")
    begun = Session(f"http://{gate.host}/v2/ml/x/blobs/uploads/old", 50)
    journal.remember(gate.host, "ml/x", DIGEST, begun)
    with pytest.raises(RegistryError) as caught:
        put(gate, journal)
    assert caught.value.problem.kind is Kind.DENIED
    assert journal.recall(gate.host, "ml/x", DIGEST) == begun


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_who_asks_to_wait_for_an_hour_is_not_waited_for_though_a_blob_may_take_a_day(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", lambda seconds: slept.append(seconds))
    uploads = Uploads(404)
    busy = Reply(429, b"", {"Retry-After": "3600"})
    gate.rule = lambda asked: busy if asked.method == method and asked.path != "/v2/" else uploads.rule(asked)
    journal = Journal(tmp_path / "uploads")
    if method == "GET":
        journal.remember(gate.host, "ml/x", DIGEST, Session(f"http://{gate.host}/v2/ml/x/blobs/uploads/old", 50))
    with pytest.raises(RegistryError, match="it asks to wait 3600 s") as caught:
        put(gate, journal)
    assert caught.value.problem.kind is Kind.RATE
    assert sum(slept) < 60


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00",
        b"[]",
        b"{}",
        b'{"location": "http://HOST/v2/ml/x/blobs/uploads/old"}',
        b'{"location": "http://HOST/v2/ml/x/blobs/uploads/old", "offset": 1e999}',
        b'{"location": "http://HOST/v2/ml/x/blobs/uploads/old", "offset": "ten"}',
        b'{"location": "http://HOST/v2/ml/x/blobs/uploads/old", "offset": -5}',
        b'{"location": "http://HOST/v2/ml/x/blobs/uploads/old", "offset": 101}',
        b'{"location": "https://elsewhere.example/v2/ml/x/blobs/uploads/old", "offset": 50}',
        b'{"location": "http://[", "offset": 50}',
    ],
)
def test_a_journal_that_says_nothing_of_use_is_no_reason_to_fail(tmp_path: Path, gate: Gate, content: bytes) -> None:
    uploads = Uploads(405)
    gate.rule = uploads.rule
    journal = Journal(tmp_path / "uploads")
    journal.remember(gate.host, "ml/x", DIGEST, Session("", 0))
    (file,) = (tmp_path / "uploads").iterdir()
    file.write_bytes(content.replace(b"HOST", gate.host.encode()))
    assert put(gate, journal).sent == len(BLOB)
    assert uploads.blobs == [BLOB]
    assert list((tmp_path / "uploads").iterdir()) == []


def test_three_that_send_a_blob_at_once_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Who waits has opened the lock's file, which whoever is done removes.
    monkeypatch.setattr(journal_module, "_POLL_SECONDS", 0.001)
    inside, most = [0], [0]
    begin = threading.Barrier(3)

    def send() -> None:
        journal = Journal(tmp_path / "uploads")
        begin.wait(20)
        for _ in range(40):
            with journal.alone("host", DIGEST):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.001)
                inside[0] -= 1

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_one_that_stands_still_is_not_waited_for(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "uploads")
    with journal.alone("host", DIGEST):
        (lock,) = (tmp_path / "uploads").glob("*.lock")
        long_ago = time.time() - 61
        os.utime(lock, (long_ago, long_ago))
        with Journal(tmp_path / "uploads").alone("host", DIGEST):
            lock.unlink()  # which is reached
