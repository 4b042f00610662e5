"""Fronts as persistent workers of Bazel."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from mfbazel.errors import MfbazelError
from mfbazel.worker import serve


def front(arguments: Sequence[str] | None) -> int:
    """Do what the first argument says."""
    (what, *_) = arguments or ["nothing"]
    print(f"did {what}")
    if what == "refuse":
        raise MfbazelError("it is refused")
    if what == "leave":
        raise SystemExit(2)
    if what == "break":
        raise ZeroDivisionError
    return 3 if what == "return" else 0


def answers(*requests: dict[str, Any]) -> list[dict[str, Any]]:
    responses = io.StringIO()
    serve(front, io.StringIO("".join(json.dumps(request) + "\n" for request in requests)), responses)
    return [json.loads(line) for line in responses.getvalue().splitlines()]


def test_every_request_has_an_answer_with_what_was_printed_and_the_exit_code() -> None:
    first, second = answers({"arguments": ["this"], "requestId": 1}, {"arguments": ["return"]})
    assert first == {"exitCode": 0, "output": "did this\n", "requestId": 1}
    assert second == {"exitCode": 3, "output": "did return\n", "requestId": 0}


def test_what_ends_a_process_ends_a_request() -> None:
    refused, left, broken, last = answers(*({"arguments": [what]} for what in ("refuse", "leave", "break", "this")))
    assert refused["exitCode"] == 1
    assert refused["output"].endswith("error: it is refused\n")
    assert left["exitCode"] == 2
    assert broken["exitCode"] == 1
    assert "ZeroDivisionError" in broken["output"]
    assert last["exitCode"] == 0


def test_a_front_serves_where_bazel_asks_for_a_worker() -> None:
    requests = "".join(json.dumps({"arguments": [argument]}) + "\n" for argument in ("--help", "nonsense"))
    command = [sys.executable, "-m", "mfbazel.image", "--persistent_worker"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, input=requests, env=environment, capture_output=True, text=True, check=True)
    helped, refused = (json.loads(line) for line in done.stdout.splitlines())
    assert helped["exitCode"] == 0
    assert "Assembles container images" in helped["output"]
    assert refused["exitCode"] == 2
