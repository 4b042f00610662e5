"""``bazel run //examples/churn:churn_flow.shell``: a step's image, or its virtual environment, by hand."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import time
from pathlib import Path

import pytest

from tests.container.laptops import Laptop
from tests.e2e.flows import CommandLine


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of somebody who has no engine."""
    directory = tmp_path_factory.mktemp("home")
    (directory / "work").mkdir()
    return directory


def command(*arguments: str) -> list[str]:
    """Return what ``bazel run`` executes."""
    words = CommandLine.read(Path(__file__).with_name("churn_flow.shell.json")).words
    return [str(Path(words[0]).absolute()), *words[1:], *arguments]


def run(environ: dict[str, str], *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run the target without a terminal."""
    environ = {**environ, "MFBAZEL_TARGET": "//examples/churn:churn_flow.shell"}
    return subprocess.run(command(*arguments), env=environ, input=given, capture_output=True, text=True)


def bare(home: Path) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": str(home), "USER": "tester", "BUILD_WORKING_DIRECTORY": str(home / "work")}


SEES = (
    "import os, sys, metaflow, threadpoolctl, examples.lib.features, churn_config; print(sys.executable, os.getcwd()); "
    "open('mine', 'w').write('x'); sys.exit(6)"
)


def test_a_command_runs_in_the_image_with_the_flows_code_and_ends_with_its_code(laptop: Laptop) -> None:
    done = run(laptop.environ, "--engine", laptop.engine, "train", "--", "python", "-c", SEES)
    assert done.returncode == 6, done.stderr
    assert done.stdout == f"/opt/venv/bin/python {laptop.work}\n"
    assert (laptop.work / "mine").stat().st_uid == os.getuid()
    assert laptop.left() == []


def test_without_a_terminal_the_shell_reads_its_input(laptop: Laptop) -> None:
    done = run(laptop.environ, "--engine", laptop.engine, "start", given="command -v python; exit 3\n")
    assert (done.returncode, done.stdout) == (3, "/opt/venv/bin/python\n"), done.stderr


def test_on_a_terminal_an_interrupt_ends_the_command_and_not_the_shell(laptop: Laptop) -> None:
    process, terminal = pty.fork()
    if process == 0:
        words = command("--engine", laptop.engine, "start")
        os.execve(words[0], words, {**laptop.environ, "TERM": "dumb"})
    said = ""

    def until(pattern: str) -> None:
        nonlocal said
        deadline = time.monotonic() + 90
        while not re.search(pattern, said):
            assert time.monotonic() < deadline, said
            if select.select([terminal], [], [], 1)[0]:
                try:
                    said += os.read(terminal, 4096).decode(errors="replace")
                except OSError:  # Linux says so at the end
                    return

    until(r"\(start\) \S+ [#$] ")
    os.write(terminal, b"sleep 300\n")
    until("sleep 300")
    time.sleep(1)
    os.write(terminal, b"\x03")
    until(r"\^C")
    os.write(terminal, b"echo al''ive; exit 5\n")
    until("alive")
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 5
    assert laptop.left() == []


ISOLATED = """
import importlib.util, json, os, sys
names = ["sklearn", "numpy", "pandas", "matplotlib", "stray_of_the_user", "pip", "pytest", "metaflow", "boto3"]
print(json.dumps({name: importlib.util.find_spec(name) is not None for name in names}))
"""


def test_locally_a_step_sees_its_own_packages_and_metaflow_only(home: Path) -> None:
    for site in (f"python3.{minor}" for minor in range(11, 20)):
        stray = home / ".local" / "lib" / site / "site-packages" / "stray_of_the_user.py"
        stray.parent.mkdir(parents=True, exist_ok=True)
        stray.touch()
    for variable, value in (("", ""), ("PYTHONPATH", str(stray.parent)), ("PYTHONUSERBASE", str(home / ".local"))):
        environ = {**bare(home), **({variable: value} if variable else {})}
        done = run(environ, "--local", "train", "--", "python", "-c", ISOLATED)
        assert done.returncode == 0, done.stderr
        found = {name for name, there in json.loads(done.stdout).items() if there}
        assert found == {"sklearn", "numpy", "metaflow", "boto3"}, variable
    done = run(bare(home), "--local", "start", "--", "python", "-c", ISOLATED)
    found = {name for name, there in json.loads(done.stdout).items() if there}
    assert found == {"metaflow", "boto3"}


def test_locally_the_code_and_the_exit_code_are_those_of_the_image(home: Path) -> None:
    done = run(bare(home), "--local", "train", "--", "python", "-c", SEES)
    assert done.returncode == 6, done.stderr
    assert done.stdout.endswith(f"/train/bin/python {home / 'work'}\n")
    done = run(bare(home), "--local", "train", given="exit 3\n")
    assert done.returncode == 3


def test_a_step_that_does_not_exist_is_an_error_with_those_that_do(home: Path) -> None:
    done = run(bare(home), "trian")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: //examples/churn:churn_flow has no step 'trian'; its steps are start, prepare"
    )


def test_help_shows_what_a_person_types(home: Path) -> None:
    done = run(bare(home), "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: bazel run //examples/churn:churn_flow.shell -- [-h] [--local]")
    assert "--lock" not in done.stdout and "--image" not in done.stdout
