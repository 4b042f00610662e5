"""Commands in real containers: exit codes, signals, files, and that nothing is left running."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mfbazel.container import Plan, Wanted, plan, prepare
from tests.container.laptops import ROOT, Laptop, layouts, wait


@dataclass(frozen=True)
class Box:
    """A planned container of the image of step ``start``."""

    laptop: Laptop
    plan: Plan

    def command(self, *words: str, planned: Plan | None = None) -> list[str]:
        """Return the command line of a task that is ``words``; the last one makes it recognisable."""
        text = (planned or self.plan).to_json()
        return [
            sys.executable,
            "-P",
            "-m",
            "mfbazel.container",
            "run",
            "--plan",
            text,
            "--",
            *words,
            str(self.laptop.work),
        ]

    def run(self, code: str, planned: Plan | None = None) -> subprocess.CompletedProcess[str]:
        """Run Python code in the container."""
        command = self.command("python", "-c", code, planned=planned)
        return subprocess.run(command, env=self.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def start(self, code: str) -> subprocess.Popen[str]:
        """Start Python code that prints a line when it is ready."""
        process = subprocess.Popen(
            self.command("python", "-u", "-c", code),
            env=self.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    @property
    def environ(self) -> dict[str, str]:
        """The environment of the person."""
        return {**self.laptop.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "GREETING": "hello 'you'"}


@pytest.fixture(scope="session")
def box(laptop: Laptop) -> Box:
    """A container that has a directory of code."""
    for name in ("code", "tmp"):
        (laptop.directory / name).mkdir()
    code = laptop.directory / "code"
    (code / "mine.py").write_text("VALUE = 7\n")
    # As this process's own: podman's settings are variables. The laptop lies in the directory of temporary files.
    with pytest.MonkeyPatch.context() as patched:
        for name, value in laptop.environ.items():
            patched.setenv(name, value)
        patched.setattr(tempfile, "tempdir", str(laptop.directory / "tmp"))
        images = prepare({"start": Wanted(laptop.engine, None)}, layouts, laptop.environ, print)
        planned = plan(images["start"], workdir=laptop.work, code=[code], import_roots=[code], environ=laptop.environ)
    return Box(laptop, planned)


def test_exit_code_output_and_errors_are_the_commands(box: Box) -> None:
    done = box.run("import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_a_command_that_crashes_ends_by_its_signal(box: Box) -> None:
    assert box.run("import ctypes; ctypes.string_at(0)").returncode == -signal.SIGSEGV


def test_a_command_that_does_not_exist_is_an_error(box: Box) -> None:
    done = subprocess.run(box.command("/no/such/program"), env=box.environ, capture_output=True, text=True)
    assert done.returncode not in (0, None)
    assert "/no/such/program" in done.stderr


SEEN = """
import json, os, sys, mine
from pathlib import Path
def writable(path):
    try:
        Path(path).write_text("x")
    except OSError as error:
        return type(error).__name__
    return True
Path("written").write_text("x")
print(json.dumps({
    "python": sys.executable, "mine": [mine.VALUE, mine.__file__], "cwd": os.getcwd(),
    "greeting": os.environ["GREETING"],
    "home": [os.environ["HOME"], os.listdir(os.environ["HOME"]), writable(os.environ["HOME"] + "/x")],
    "path": os.environ["PATH"], "code": writable(mine.__file__), "input": sys.stdin.read(),
    "engine": os.environ["MFBAZEL_CONTAINER_ENGINE"], "secret": Path(sys.argv[1]).parent.joinpath("secret").exists(),
    "shm": writable("/dev/shm/mfbazel-test"), "processes": sum(name.isdigit() for name in os.listdir("/proc")),
}))
os.unlink("/dev/shm/mfbazel-test")
"""


def test_a_command_sees_its_code_and_its_own_directory_and_the_image_otherwise(box: Box) -> None:
    laptop = box.laptop
    (laptop.directory / "secret").touch()
    done = box.run(SEEN)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["python"] == "/opt/venv/bin/python"
    assert seen["mine"] == [7, str(laptop.directory / "code" / "mine.py")]
    assert seen["cwd"] == str(laptop.work)
    assert seen["greeting"] == "hello 'you'"
    assert seen["home"] == [laptop.environ["HOME"], [], True]
    assert seen["path"].startswith("/opt/venv/bin:")
    assert seen["code"] in ("OSError", "PermissionError")
    assert (laptop.directory / "code" / "mine.py").read_text() == "VALUE = 7\n"
    assert (seen["input"], seen["engine"], seen["secret"], seen["shm"]) == ("", laptop.engine, False, True)
    assert seen["processes"] <= 3
    written = laptop.work / "written"
    assert (written.read_text(), written.stat().st_uid) == ("x", os.getuid())
    assert list((laptop.directory / "home").glob("x")) == []


def test_the_network_is_the_machines(box: Box) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = box.run(f"import socket; print(socket.create_connection(('127.0.0.1', {port}), 5).getpeername()[1])")
    assert done.stdout == f"{port}\n", done.stderr


def test_two_commands_do_not_see_what_the_other_writes_into_the_image(box: Box) -> None:
    write = "from pathlib import Path; p = Path('/var/tmp/mark'); print(p.exists()); p.touch()"
    assert [box.run(write).stdout for _ in range(2)] == ["False\n", "False\n"]


@pytest.mark.parametrize("laptop", ["bubblewrap"], indirect=True)
def test_without_an_overlay_the_root_is_read_only(box: Box) -> None:
    planned = replace(box.plan, image=replace(box.plan.image, overlay=False))
    done = box.run("open('/usr/mark', 'w')", planned)
    assert "Read-only file system: '/usr/mark'" in done.stderr
    done = box.run(SEEN, planned)
    assert done.returncode == 0, done.stderr
    assert not Path(box.plan.image.handle, "usr", "mark").exists()


WAITS = """
import sys, time
print("ready")
try:
    time.sleep(100)
finally:
    open("cleaned", "w").close()
"""


def test_an_interrupt_reaches_the_command_which_cleans_up(box: Box) -> None:
    process = box.start(WAITS)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == -signal.SIGINT
    (box.laptop.work / "cleaned").unlink()
    wait(lambda: box.laptop.left() == [], "everything to end", 10)


def test_a_command_that_ignores_termination_is_ended_after_a_while(box: Box) -> None:
    process = box.start("import signal, time; signal.signal(15, signal.SIG_IGN); print('ready'); time.sleep(100)")
    process.terminate()
    assert process.wait(30) == -signal.SIGTERM
    wait(lambda: box.laptop.left() == [], "everything to end", 10)


def test_where_the_task_is_killed_its_container_ends(box: Box) -> None:
    process = box.start("import time; print('ready'); time.sleep(100)")
    assert box.laptop.left() != []
    process.kill()
    assert process.wait(30) == -signal.SIGKILL
    wait(lambda: box.laptop.left() == [], "everything to end", 20)


def test_where_metaflow_is_killed_the_container_ends(box: Box) -> None:
    starts = "import subprocess, sys, time; subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE).wait()"
    command = box.command("python", "-u", "-c", "import time; print('ready'); time.sleep(100)")
    parent = subprocess.Popen(
        [sys.executable, "-c", starts, *command], env=box.environ, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    parent.kill()
    parent.wait()
    wait(lambda: box.laptop.left() == [], "everything to end", 20)
