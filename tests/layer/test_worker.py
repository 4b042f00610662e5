"""Layers made by a persistent worker: the same bytes, errors and memory as by a process each."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from mfbazel.worker import in_child, serve
from tests.layer.wheels import environment, layer, make_wheel

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[str]]:
    """A worker as Bazel starts one."""
    command = [sys.executable, "-m", "mfbazel.layer", "--persistent_worker"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment(), stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        yield process
        process.kill()


def answer(worker: subprocess.Popen[str], arguments: Sequence[str | Path]) -> tuple[int, str]:
    """Return exit code and output of one request."""
    assert worker.stdin
    assert worker.stdout
    worker.stdin.write(json.dumps({"arguments": [str(argument) for argument in arguments]}) + "\n")
    worker.stdin.flush()
    response = json.loads(worker.stdout.readline())
    return response["exitCode"], response["output"]


def wheel_arguments(directory: Path, *rest: str | Path) -> list[str | Path]:
    outputs = ["--blob", directory / "l.tar", "--descriptor", directory / "l.json", "--files", directory / "l.tsv"]
    return ["wheels", "--python", "3.14", *map(str, outputs), *rest]


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_layers_of_one_worker_are_those_of_a_process_each(tmp_path: Path, worker: subprocess.Popen[str]) -> None:
    source = b'"""Text."""\nNAMES = {"one", "two", "three"}\ndef one(two):\n    return two.three\n'
    other = make_wheel(tmp_path, "other", {f"other/module_{i}.py": source * (i + 1) for i in range(20)})
    wheel = make_wheel(tmp_path, files={"demo/__init__.py": source, "demo/two.py": source + b"one(two)\n"})
    every: list[tuple[str, ...]] = [(), ("--bytecode",), ("--compression", "gzip"), ("--bytecode",)]
    for number, options in enumerate(every):
        made = tmp_path / f"worker-{number}"
        assert answer(worker, wheel_arguments(made, *options, other)) == (0, "")
        assert answer(worker, wheel_arguments(made, *options, wheel)) == (0, "")
        assert content(made) == content(layer(tmp_path, wheel, options=options, out=f"alone-{number}"))


def test_a_layer_that_fails_says_why_and_the_next_one_is_made(tmp_path: Path, worker: subprocess.Popen[str]) -> None:
    broken = make_wheel(tmp_path, "broken", record=lambda text: text.replace("sha256=", "sha256=x", 1))
    arguments = wheel_arguments(tmp_path / "out", "--name", "broken", broken)
    code, output = answer(worker, arguments)
    alone = subprocess.run(
        [sys.executable, "-m", "mfbazel.layer", *arguments], env=environment(), capture_output=True, text=True
    )
    assert (code, output) == (alone.returncode, alone.stderr)
    assert code == 1
    assert output.startswith(f"error: layer broken: {broken}")
    assert not any((tmp_path / "out").glob("*"))
    assert answer(worker, wheel_arguments(tmp_path / "out", make_wheel(tmp_path))) == (0, "")
    code, output = answer(worker, wheel_arguments(tmp_path / "out", "--python"))
    assert code == 2
    assert "expected one argument" in output


def run_child(front: Callable[[Sequence[str] | None], int | None]) -> dict[str, Any]:
    """Return the answer to one request of a front."""
    responses = io.StringIO()
    serve(front, io.StringIO('{"arguments": [], "requestId": 4}\n'), responses, run=in_child)
    answered: dict[str, Any] = json.loads(responses.getvalue())
    return answered


def test_what_kills_the_process_of_a_layer_is_named_and_leaves_the_worker_alive() -> None:
    def front(_: Sequence[str] | None) -> int:
        print("begun", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    killed = run_child(front)
    assert (killed["exitCode"], killed["requestId"]) == (1, 4)
    assert killed["output"].startswith("begun\nerror: the process of this action was ended by SIGKILL")


def test_what_a_program_started_for_a_layer_prints_is_answered_and_it_reads_no_request() -> None:
    def front(_: Sequence[str] | None) -> int:
        return subprocess.run(["sh", "-c", "cat; echo of a program >&2; exit 3"], check=False).returncode

    assert run_child(front) == {"exitCode": 3, "output": "of a program\n", "requestId": 4}


def test_a_worker_that_is_ended_leaves_no_part_of_a_layer_behind(tmp_path: Path, worker: subprocess.Popen[str]) -> None:
    # Reading from a pipe that nobody closes takes for ever.
    source, out = tmp_path / "source.tar", tmp_path / "out"
    os.mkfifo(source)
    arguments = ["tar", "--blob-in", source, "--blob", out / "l.tar", "--descriptor", out / "l.json"]
    assert worker.stdin
    worker.stdin.write(json.dumps({"arguments": [str(argument) for argument in arguments]}) + "\n")
    worker.stdin.flush()
    with source.open("wb") as pipe:
        pipe.write(bytes(512))
        pipe.flush()
        deadline = time.monotonic() + 30
        while not (out.exists() and list(out.iterdir())) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert list(out.glob(".l.tar.*.part")), "the layer was not begun"
        worker.terminate()
        assert worker.wait(30) == 130
        assert not list(out.iterdir())


def interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def test_a_signal_that_comes_while_the_process_of_a_layer_is_begun_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    children: list[int] = []
    fork = os.fork

    def during() -> int:
        if child := fork():
            children.append(child)
            os.kill(os.getpid(), signal.SIGTERM)
        return child

    def front(_: Sequence[str] | None) -> int:
        time.sleep(60)
        return 0

    monkeypatch.setattr(os, "fork", during)
    before = signal.signal(signal.SIGTERM, interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_child(front)
        with pytest.raises(ChildProcessError):
            os.waitpid(children[0], os.WNOHANG)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_the_process_of_a_layer_hears_signals() -> None:
    def front(_: Sequence[str] | None) -> int:
        return len(signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    assert run_child(front)["exitCode"] == 0


def test_a_signal_that_comes_when_the_process_of_a_layer_has_ended_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waitpid = os.waitpid

    def after(child: int, options: int) -> tuple[int, int]:
        waitpid(child, options)
        monkeypatch.setattr(os, "waitpid", waitpid)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "waitpid", after)
    with pytest.raises(KeyboardInterrupt):
        run_child(lambda _: 0)


def test_the_process_of_a_layer_that_does_not_end_when_told_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def front(_: Sequence[str] | None) -> int:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (tmp_path / "beside").write_text(str(os.getpid()))
        (tmp_path / "beside").rename(tmp_path / "process")
        signal.pause()
        return 0

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if (tmp_path / "process").exists():
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt

    monkeypatch.setattr("mfbazel.worker._GRACE_SECONDS", 0.5)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        with pytest.raises(KeyboardInterrupt):
            run_child(front)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "process").read_text()), 0)


def test_memory_of_a_layer_does_not_stay_with_the_worker(tmp_path: Path, worker: subprocess.Popen[str]) -> None:
    big = make_wheel(tmp_path, "big", {f"big/{i}.py": b"value = 1\n" for i in range(3000)})
    assert answer(worker, venv_arguments(tmp_path)) == (0, "")
    before = high_water(worker)
    assert answer(worker, wheel_arguments(tmp_path / "out", big)) == (0, "")
    assert high_water(worker) - before < 2 << 10, "kilobytes"


def venv_arguments(directory: Path) -> list[str | Path]:
    outputs = ["--blob", directory / "v.tar", "--descriptor", directory / "v.json"]
    return ["venv", "--python", "3.14", "--interpreter", "/usr/bin/python3", *map(str, outputs)]


def high_water(process: subprocess.Popen[str]) -> int:
    """Return the most memory that a process had, in kilobytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
