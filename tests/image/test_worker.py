"""The front as a worker of Bazel: many actions by one process."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from mfbazel.image.__main__ import main
from mfbazel.worker import serve
from tests.image.layouts import make_layer, manifest_of


def answers(*requests: dict[str, Any]) -> list[dict[str, Any]]:
    said = io.StringIO()
    serve(main, io.StringIO("".join(json.dumps(request) + "\n" for request in requests)), said)
    return [json.loads(line) for line in said.getvalue().splitlines()]


def assemble(output: Path, *options: str) -> list[str]:
    return ["assemble", "--output", str(output), "--os", "linux", "--architecture", "amd64", *options]


def test_every_request_is_an_action_of_its_own(tmp_path: Path) -> None:
    layers = [make_layer(tmp_path, name) for name in ("one", "two")]
    requests = [
        {"arguments": assemble(tmp_path / f"image{number}", "--layer", layer), "requestId": 0}
        for number, layer in enumerate(layers)
    ]
    assert answers(*requests) == [{"exitCode": 0, "output": "", "requestId": 0}] * 2
    for number, layer in enumerate(layers):
        described = json.loads(Path(layer.partition("=")[2]).read_text())
        assert [entry["digest"] for entry in manifest_of(tmp_path / f"image{number}")["layers"]] == [
            described["digest"]
        ]


def test_an_action_that_fails_says_why_and_the_next_one_is_done(tmp_path: Path) -> None:
    failed, wrong, done = answers(
        {"arguments": assemble(tmp_path / "image", "--layer", "no descriptor"), "requestId": 1},
        {"arguments": ["assemble", "--unknown"], "requestId": 2},
        {"arguments": assemble(tmp_path / "image"), "requestId": 3},
    )
    assert (failed["exitCode"], failed["requestId"]) == (1, 1)
    assert failed["output"].startswith("error: --layer no descriptor: BLOB=DESCRIPTOR is expected")
    assert wrong["exitCode"] == 2
    assert "--output" in wrong["output"]
    assert done == {"exitCode": 0, "output": "", "requestId": 3}


def test_what_nobody_thought_of_is_an_answer_too() -> None:
    said = io.StringIO()

    def broken(arguments: object) -> int:
        raise RuntimeError(f"no {arguments}")

    serve(broken, io.StringIO('{"arguments": ["a"]}\n'), said)
    answer = json.loads(said.getvalue())
    assert answer["exitCode"] == 1
    assert answer["output"].rstrip().endswith("RuntimeError: no ['a']")
