"""Many images are confirmed at once, within one limit."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.push_rig import free_port
from mfbazel.registry import Client, Kind, confirm
from mfbazel.registry.client import digest_of
from tests.registry.gate import EMPTY, IMAGE, Asked, Gate, Reply, gate_before_a_registry, without_credentials


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A registry that has ``ml/x:v1``, and has been asked nothing."""
    without_credentials(tmp_path, monkeypatch)
    with gate_before_a_registry(tmp_path / "disk") as made:
        client = Client(made.host)
        client.put_blob("ml/x", EMPTY)
        client.put_manifest("ml/x", "v1", IMAGE)
        made.asked.clear()
        yield made


def test_each_reference_is_asked_for_once_and_answered_in_order(gate: Gate) -> None:
    there, missing = f"{gate.host}/ml/x@{digest_of(IMAGE)}", f"{gate.host}/ml/x@{digest_of(b'no')}"
    nobody = f"127.0.0.1:{free_port()}/ml/x:v1"
    problems = confirm([missing, there, "python:3.14", nobody, there, f"{gate.host}/ml/x:v1"], timeout=20)
    assert list(problems) == [missing, there, "python:3.14", nobody, f"{gate.host}/ml/x:v1"]
    kinds = [problem and problem.kind for problem in problems.values()]
    assert kinds == [Kind.MISSING, None, Kind.REFERENCE, Kind.UNREACHABLE, None]
    assert str(problems[missing]).startswith(f"the registry {gate.host} does not have {missing} (404)")
    assert gate.count("HEAD") == 3
    assert len(gate.asked) == 4  # and the greeting, since the host is on loopback


def test_many_are_asked_for_at_once(gate: Gate) -> None:
    four = threading.Barrier(4, timeout=60)  # no request is answered before three others are there

    def answer(asked: Asked) -> Reply | None:
        if asked.method != "HEAD":
            return None
        four.wait()
        return Reply(200)

    gate.rule = answer
    problems = confirm([f"{gate.host}/ml/x@sha256:{number:064}" for number in range(32)], timeout=200)
    assert set(problems.values()) == {None}


def test_a_registry_that_never_answers_is_a_problem_within_the_limit(gate: Gate) -> None:
    gate.rule = lambda asked: Reply(200, pause=30) if "silent" in asked.path else None
    silent, there = f"{gate.host}/ml/silent:v1", f"{gate.host}/ml/x:v1"
    with socket.create_server(("127.0.0.1", 0)) as never:  # takes connections, and reads nothing
        deaf = f"127.0.0.1:{never.getsockname()[1]}/ml/x:v1"
        began = time.monotonic()
        problems = confirm([silent, deaf, there], timeout=2)
        assert time.monotonic() - began < 20
    assert problems[there] is None
    for reference in (silent, deaf):
        problem = problems[reference]
        assert problem and problem.kind is Kind.TIMEOUT
        assert "no answer within 2 s" in problem.message
        assert reference.partition("/")[0] in problem.message


def _drip(server: socket.socket) -> None:
    """Answer the first connection with an endless header, a byte at a time."""
    connection, _ = server.accept()
    with connection, contextlib.suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while True:
            connection.sendall(b"x")
            time.sleep(0.05)


def test_an_answer_that_drips_is_a_problem_within_the_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as dripping:
        host = f"127.0.0.1:{dripping.getsockname()[1]}"
        threading.Thread(target=_drip, args=(dripping,), daemon=True).start()
        began = time.monotonic()
        problems = confirm([f"{host}/ml/x:v1"], timeout=0.5)
        assert time.monotonic() - began < 20  # it has no end
    problem = problems[f"{host}/ml/x:v1"]
    assert problem and problem.kind is Kind.TIMEOUT


def test_what_nobody_expected_is_a_problem_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("never seen before")

    monkeypatch.setattr(Client, "head_manifest", fail)
    (problem,) = confirm(["127.0.0.1:1/ml/x:v1"], timeout=5).values()
    assert problem and "ValueError: never seen before" in problem.message


def test_nothing_to_confirm_asks_nobody() -> None:
    assert confirm([], timeout=1) == {}
