"""Locking many flows at once, against a local wheelhouse: no network, no Bazel."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from mfbazel.lock import cli, command
from mfbazel.lock.command import Shared
from mfbazel.lock.document import read
from mfbazel.lock.errors import LockError
from mfbazel.lock.flow import FlowOptions, read_flow_environments
from mfbazel.lock.repository.all_flows import Choices, Everything, Result
from mfbazel.lock.repository.bazel import FlowFiles
from mfbazel.lock.stale import check_lock
from tests.lock.many_flows import Repository, make_wheels
from tests.lock.wheelhouse import use_only, wheel

NAMES = ("alpha", "beta", "gamma", "delta", "epsilon")
WORKSPACE = Path(__file__).parents[2]


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheelhouse, and a configuration that knows nothing else."""
    return use_only(make_wheels(tmp_path / "wheelhouse"), tmp_path / "home", monkeypatch)


@pytest.fixture
def repository(tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A workspace, as ``bazel run`` names it."""
    assert wheels.is_dir()
    made = Repository(tmp_path / "workspace")
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(made.directory))
    return made


def lock(flows: list[FlowFiles], *options: str, write: bool = True) -> tuple[list[Result], Shared]:
    shared = Shared()
    return Everything(Choices(write, options), shared).lock(flows), shared


def versions(repository: Repository, name: str) -> dict[str, str]:
    found = read(repository.lock(name), "")
    assert found is not None
    return found.versions("train")


def test_100_flows_of_5_requirement_sets_are_5_resolutions_besides_those_that_all_share(repository: Repository) -> None:
    flows = [repository.add(f"flow{n}", {NAMES[n % 5]: "1.0"}) for n in range(100)]
    results, shared = lock(flows)
    assert [result.label for result in results] == [flow.label for flow in flows]
    assert not [result.error for result in results if result.error]
    # The launcher; the steps that declare nothing.
    assert shared.resolutions.made == 5 + 2
    for n in range(100):
        assert versions(repository, f"flow{n}") == {NAMES[n % 5]: "1.0", "boto3": "3.0", "requests": "3.0"}


def test_locking_again_resolves_nothing_and_changes_no_byte(repository: Repository) -> None:
    flows = [repository.add(f"flow{n}", {NAMES[n % 5]: "1.0"}) for n in range(10)]
    lock(flows)
    before = repository.contents()
    results, shared = lock(flows)
    assert {result.state for result in results} == {"unchanged"}
    assert shared.resolutions.made == 0
    assert repository.contents() == before


def test_a_lock_is_the_same_whether_made_alone_or_with_others(repository: Repository) -> None:
    flows = [repository.add(f"flow{n}", {NAMES[n % 5]: ">=1"}) for n in range(6)]
    lock(flows)
    together = repository.contents()
    words = flows[3].arguments.read_text().splitlines()
    shutil.rmtree(repository.lock("flow3"))
    assert cli.main(["flow", *words]) == 0
    assert repository.contents() == together


def test_the_error_of_one_flow_does_not_stop_the_others(repository: Repository) -> None:
    flows = [
        repository.add("good", {"alpha": "1.0"}),
        repository.add("impossible", {"alpha": "7.0"}),
        repository.add("misspelt", {"alpha": "1.0"}, ["--glibc", "new"]),
        repository.add("strange", {"alpha": "1.0"}, ["--unheard-of"]),
        repository.add("broken", {"alpha": "1.0"}),
        repository.add("fine", {"beta": "1.0"}),
    ]
    (repository.directory / "flows" / "broken.py").write_text("def")
    results, _ = lock(flows)
    errors = {result.label: result.error for result in results if result.error}
    assert list(errors) == ["//flows:impossible", "//flows:misspelt", "//flows:strange", "//flows:broken"]
    assert "alpha==7.0" in str(errors["//flows:impossible"])
    assert "attribute `glibc`: 'new'" in str(errors["//flows:misspelt"])
    assert "--unheard-of" in str(errors["//flows:strange"])
    assert "broken.py" in str(errors["//flows:broken"])
    assert not any("mfbazel-scratch-" in str(error) for error in errors.values())
    assert repository.lock("good").is_dir()
    assert repository.lock("fine").is_dir()
    assert not repository.lock("impossible").exists()


def test_a_directory_that_cannot_be_written_is_the_error_of_its_flow(repository: Repository) -> None:
    flows = [repository.add("blocked", {"alpha": "1.0"}), repository.add("free", {"alpha": "1.0"})]
    repository.lock("blocked").write_text("a file where the directory should be")
    results, _ = lock(flows)
    assert [result.state for result in results] == ["failed", "3 changes"]
    assert "blocked.lock" in str(results[0].error)
    assert repository.lock("free").is_dir()


def test_an_error_of_the_program_itself_is_not_hidden(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = repository.add("flow", {"alpha": "1.0"})

    def raising(*_arguments: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(command, "build", raising)
    with pytest.raises(RuntimeError, match="a mistake"):
        lock([flow])


def test_without_writing_it_says_what_would_change(repository: Repository) -> None:
    flow = repository.add("flow", {"alpha": "1.0"})
    lock([flow])
    before = repository.contents()
    changed = repository.add("flow", {"alpha": "2.0"})
    (result,), _ = lock([changed], write=False)
    assert result.outcome is not None
    assert "train: alpha 1.0 → 2.0 (declared)" in [str(change) for change in result.outcome.changes]
    assert repository.contents() == before


def test_upgrades_are_those_of_every_flow(repository: Repository, wheels: Path) -> None:
    flows = [repository.add(f"flow{n}", {"alpha": ">=1", "beta": ">=1"}) for n in range(3)]
    lock(flows)
    wheel(wheels, "alpha", "2.5")
    wheel(wheels, "beta", "2.5")
    lock(flows)
    assert versions(repository, "flow0")["alpha"] == "2.0"
    lock(flows, "--upgrade-package", "alpha")
    assert {
        (versions(repository, f"flow{n}")["alpha"], versions(repository, f"flow{n}")["beta"]) for n in range(3)
    } == {("2.5", "2.0")}
    lock(flows, "--upgrade")
    assert versions(repository, "flow2")["beta"] == "2.5"


def test_the_policy_is_that_of_all_flows(repository: Repository) -> None:
    policy = repository.directory / "mfbazel.toml"
    flows = [repository.add(f"flow{n}", {"alpha": ">=1"}, ["--policy", str(policy)]) for n in range(3)]
    policy.write_text('[lock]\nconstraints = ["constraints.txt"]\n')
    (repository.directory / "constraints.txt").write_text("alpha<2\n")
    _, shared = lock(flows)
    assert {versions(repository, f"flow{n}")["alpha"] for n in range(3)} == {"1.0"}
    assert shared.resolutions.made == 3


def test_a_wheel_of_the_workspace_is_one_question_whichever_flow_names_it(repository: Repository) -> None:
    libs = repository.directory / "libs"
    wheel(libs, "local", "1.0")
    (file,) = libs.iterdir()
    name = PurePosixPath("libs") / file.name
    option = ["--wheel", f"//libs:{file.name}={name}"]
    flows = [repository.add(f"flow{n}", {"local": "1.0"}, option) for n in range(3)]
    results, shared = lock([replace(flow, files={**flow.files, name: file}) for flow in flows])
    assert not [result.error for result in results if result.error]
    assert shared.resolutions.made == 3
    assert versions(repository, "flow2")["local"] == "1.0"
    assert "mfbazel-scratch-" not in "".join(path.read_text() for path in repository.lock("flow2").iterdir())


def test_only_what_the_target_declares_is_read(repository: Repository) -> None:
    """A module that lies beside the flow and is none of its files is not there for it."""
    flow = repository.add("flow", {"alpha": "1.0"})
    source = repository.directory / "flows" / "flow.py"
    source.write_text(f"import beside\n{source.read_text()}")
    (repository.directory / "flows" / "beside.py").write_text("import beta\n")
    lock([flow])
    found = read(repository.lock("flow"), "")
    assert found is not None
    modules = {entry["module"] for step in found.document["flow"]["steps"] for entry in step["inferred"]}
    assert "beta" not in modules


def test_results_come_as_they_are_done_and_flows_run_at_the_same_time(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    flows = [repository.add(f"flow{n}", {"alpha": "1.0"}) for n in range(4)]
    meeting = threading.Barrier(2, timeout=30)

    def waiting(options: FlowOptions) -> object:
        meeting.wait()
        return read_flow_environments(options)

    monkeypatch.setattr(command, "read_flow_environments", waiting)
    seen: list[str] = []
    Everything(jobs=2, done=lambda result: seen.append(result.label)).lock(flows)
    assert sorted(seen) == [flow.label for flow in flows]


_KILLED = """
import os, signal, sys
from pathlib import Path, PurePosixPath
from mfbazel.lock.repository.all_flows import Everything
from mfbazel.lock.repository.bazel import FlowFiles
def flow(name):
    source = f"flows/{name}.py"
    arguments = Path(f"built/_{name}.locking.args")
    return FlowFiles(f"//flows:{name}", arguments, {PurePosixPath(source): Path(source).resolve()})
results = []
def done(result):
    results.append(result)
    if len(results) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
Everything(jobs=4, done=done).lock([*map(flow, sys.argv[1:])])
"""


def test_killed_in_the_middle_each_lock_is_the_old_one_or_the_new_one(repository: Repository) -> None:
    names = [f"flow{n}" for n in range(40)]
    lock([repository.add(name, {"alpha": "1.0"}) for name in names])
    old = repository.contents()
    flows = [repository.add(name, {"alpha": "2.0"}) for name in names]
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, *names],
        cwd=repository.directory,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(WORKSPACE), *sys.path])},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    middle = repository.contents()
    lock(flows)
    new = repository.contents()
    states = {"old": 0, "new": 0}
    for name in names:
        files = {path for path in new if path.startswith(f"flows/{name}.lock/")}
        is_new = all(middle[path] == new[path] for path in files)
        assert is_new or all(middle[path] == old[path] for path in files)
        states["new" if is_new else "old"] += 1
        document = read(repository.lock(name), "")
        assert document is not None and not check_lock(document)
    assert states["new"] >= 3 and states["old"] > 0
    assert not list((repository.directory / "flows").glob(".*"))


def test_interrupted_nothing_more_is_written_and_nothing_is_waited_for(repository: Repository) -> None:
    lock([repository.add(name, {"alpha": "1.0"}) for name in ("one", "two", "three")])
    flows = [repository.add(name, {"alpha": "2.0"}) for name in ("one", "two", "three")]
    shared = Shared()

    def interrupt(_result: Result) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Everything(Choices(), shared, jobs=1, done=interrupt).lock(flows)
    assert shared.stopped.is_set()
    assert [versions(repository, name)["alpha"] for name in ("one", "two", "three")].count("1.0") >= 2
    with pytest.raises(LockError, match="interrupted; the old lock is as it was"):
        command.run(Everything(shared=shared)._task(flows[2], flows[2].link(repository.directory / "links")), shared)
    assert versions(repository, "three") == {**versions(repository, "three"), "alpha": "1.0"}


def test_no_files_of_its_own_are_left_behind(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    lock([repository.add("good", {"alpha": "1.0"}), repository.add("impossible", {"alpha": "7.0"})])
    deadline = time.monotonic() + 60
    while list(scratch.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not list(scratch.iterdir())


def test_the_flow_part_of_a_lock_names_no_place_of_this_machine(repository: Repository) -> None:
    lock([repository.add("flow", {"alpha": "1.0"})])
    text = (repository.lock("flow") / "flow.json").read_text()
    assert json.loads(text)["flow"]["source"] == "flow.py"
    assert "mfbazel-scratch-" not in text and str(repository.directory) not in text
