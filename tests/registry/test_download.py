"""Reading blobs as streams: from an offset, over broken connections, without trust in what comes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.push_rig import random_content
from mfbazel.registry import Client, Kind
from mfbazel.registry import download as module
from mfbazel.registry.client import digest_of
from mfbazel.registry.download import BlobSource, SourceError
from tests.registry.gate import Asked, Gate, Reply, basic, gate_before_a_registry, without_credentials

BLOB = random_content("blob", 300_000)
DIGEST = digest_of(BLOB)


@pytest.fixture(autouse=True)
def quick_and_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_credentials(tmp_path, monkeypatch)
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.001)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A registry that has :data:`BLOB` in ``ml/x``."""
    with gate_before_a_registry(tmp_path / "disk") as made:
        Client(made.host).put_blob("ml/x", BLOB)
        made.asked.clear()
        yield made


def source(gate: Gate, digest: str = DIGEST) -> BlobSource:
    return BlobSource(Client(gate.host), "ml/x", digest, len(BLOB))


def read(blob: BlobSource, offset: int = 0) -> bytes:
    with blob.open(offset) as stream:
        return b"".join(iter(lambda: stream.read(50_000), b""))


def reads(gate: Gate) -> list[str]:
    """Return the ``Range`` of each request for a blob."""
    return [asked.headers.get("Range", "") for asked in gate.asked if "/blobs/" in asked.path]


def answer(body: bytes, length: int | None = None) -> Reply:
    """A whole blob, of which the connection brings only ``body``."""
    return Reply(200, body, {"Content-Length": str(length or len(body)), "Connection": "close"})


def test_all_of_it_or_the_rest_from_an_offset(gate: Gate) -> None:
    assert read(source(gate)) == BLOB
    assert read(source(gate), 299_999) == BLOB[-1:]
    assert read(source(gate), len(BLOB)) == b""
    assert reads(gate) == ["", "bytes=299999-299999"]


def test_nothing_is_asked_before_something_is_read(gate: Gate) -> None:
    source(gate).open(0).close()
    assert not reads(gate)


def test_what_a_registry_without_parts_sends_again_is_dropped(gate: Gate) -> None:
    gate.rule = lambda asked: answer(BLOB) if "/blobs/" in asked.path else None
    assert read(source(gate), 123_456) == BLOB[123_456:]


def test_a_registry_that_refuses_parts_is_asked_for_all_of_it(gate: Gate) -> None:
    gate.rule = lambda asked: Reply(416) if asked.headers.get("Range") else None
    assert read(source(gate), 123_456) == BLOB[123_456:]


def test_after_a_broken_connection_only_the_rest_is_asked_for(gate: Gate) -> None:
    def rule(asked: Asked) -> Reply | None:
        first = "/blobs/" in asked.path and len(reads(gate)) == 1
        return answer(BLOB[:100_000], len(BLOB)) if first else None

    gate.rule = rule
    assert read(source(gate)) == BLOB
    assert reads(gate) == ["", "bytes=100000-299999"]


def test_who_breaks_again_and_again_without_progress_is_given_up(gate: Gate) -> None:
    gate.rule = lambda asked: Reply(503) if "/blobs/" in asked.path else None
    with pytest.raises(SourceError, match=r"while reading the blob .503") as caught:
        read(source(gate))
    assert caught.value.problem.kind is Kind.FAILED
    assert len(reads(gate)) == 6


def test_other_bytes_than_the_digest_says_are_an_error_at_the_last_one(gate: Gate) -> None:
    gate.rule = lambda asked: answer(bytes(len(BLOB))) if "/blobs/" in asked.path else None
    with pytest.raises(SourceError, match=f"digest mismatch: sha256:[0-9a-f]+ instead of {DIGEST}"):
        read(source(gate))


def test_bytes_are_verified_over_several_streams_that_follow_each_other(gate: Gate) -> None:
    gate.rule = lambda asked: answer(bytes(len(BLOB))) if "/blobs/" in asked.path else None
    blob = source(gate)
    with blob.open(0) as stream:
        assert stream.read(1000) == bytes(1000)
    with pytest.raises(SourceError, match="digest mismatch"):
        read(blob, 500)


def test_another_part_than_was_asked_for_is_refused(gate: Gate) -> None:
    part = Reply(206, BLOB[:10], {"Content-Range": f"bytes 0-9/{len(BLOB)}"})
    gate.rule = lambda asked: part if "/blobs/" in asked.path else None
    with pytest.raises(SourceError, match="another part of a blob than bytes 5 on"):
        read(source(gate), 5)


def test_a_blob_that_is_missing_is_an_error_that_names_it(gate: Gate) -> None:
    missing = digest_of(b"missing")
    with pytest.raises(SourceError, match=f"does not have {gate.host}/ml/x@{missing}") as caught:
        read(source(gate, missing))
    assert caught.value.problem.kind is Kind.MISSING


def test_who_wants_credentials_gets_them(gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate.rule = basic("someone", "s3cret")
    (tmp_path / "config.json").write_text(
        f'{{"auths": {{"{gate.host}": {{"username": "someone", "password": "s3cret"}}}}}}'
    )
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert read(source(gate)) == BLOB


def test_credentials_stay_with_the_registry_that_redirects(
    gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Gate() as storage:
        storage.rule = lambda _: answer(BLOB)
        allowed = basic("someone", "s3cret")
        away = Reply(307, headers={"Location": f"http://{storage.host}/signed?key=1"})
        gate.rule = lambda asked: allowed(asked) or (away if "/blobs/" in asked.path else None)
        (tmp_path / "config.json").write_text(
            f'{{"auths": {{"{gate.host}": {{"username": "someone", "password": "s3cret"}}}}}}'
        )
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        assert read(source(gate)) == BLOB
        assert [asked.authorization for asked in storage.asked] == [""]
