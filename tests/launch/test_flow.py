"""A flow started by the launcher: each task on the packages of its step, files from a tree of symlinks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mfbazel.analyze import requirements_sha256
from mfbazel.launch.flow import own_options

ROOT = Path(__file__).absolute().parents[2]
STEPS = ("start", "train", "end")
INSTALLED = [path for path in sys.path if path and any(Path(path).glob("*.dist-info"))]
FLOW = """
import json
from importlib import import_module
from pathlib import Path
from metaflow import FlowSpec, pypi, step
import settings
from lib import shapes


def seen():
    found = {}
    for module in ("alpha", "beta", "undeclared", "stray", "pip", "metaflow"):
        try:
            found[module] = getattr(import_module(module), "VERSION", "imported")
        except ModuleNotFoundError as error:
            found[module] = type(error).__name__
    return {**found, "settings": settings.VALUE, "shapes": shapes.SIDES}


class SmallFlow(FlowSpec):
    @step
    def start(self):
        Path("start.json").write_text(json.dumps(seen()))
        self.next(self.train)

    @pypi(packages={"alpha": "1.5"})
    @step
    def train(self):
        Path("train.json").write_text(json.dumps(seen()))
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    SmallFlow()
"""


class Launch:
    """A flow as the rule lays it out: sources elsewhere, a runfiles tree of symlinks, JSON files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.python = f"{sys.version_info[0]}.{sys.version_info[1]}"
        self.write_sources()
        self.write_wheel()
        self.write_lock(dict.fromkeys((*STEPS, "_launcher"), self.python))

    def write_sources(self) -> None:
        """Write sources and the tree; ``undeclared.py`` lies beside the flow, but the tree lacks it."""
        sources = {
            "flows/small_flow.py": FLOW,
            "flows/settings.py": "VALUE = 7\n",
            "flows/undeclared.py": "VERSION = 'leaked'\n",
            "lib/shapes.py": "SIDES = 3\n",
        }
        for name, content in sources.items():
            source, runfile = self.directory / "source" / name, self.directory / "runfiles" / name
            source.parent.mkdir(parents=True, exist_ok=True)
            source.write_text(content)
            runfile.parent.mkdir(parents=True, exist_ok=True)
            if "undeclared" not in name:
                runfile.symlink_to(source)
        self.directory.joinpath("first_party.json").write_text(json.dumps({"lib/shapes.py": "lib/shapes.py"}))

    def write_wheel(self) -> None:
        """Unpack ``alpha``, a wheel of the step ``train``, and ``beta``, one of the launcher; list all directories."""
        for name in ("alpha", "beta"):
            site = self.directory / "runfiles" / "wheels" / f"{name}-1.5"
            site.mkdir(parents=True)
            site.joinpath(f"{name}.py").write_text("VERSION = '1.5'\n")
        # What Metaflow imports in a task is locked for every step.
        sites = dict.fromkeys(STEPS, INSTALLED)
        sites |= {"train": ["wheels/alpha-1.5", *INSTALLED], "_launcher": ["wheels/beta-1.5", *INSTALLED]}
        self.directory.joinpath("sites.json").write_text(json.dumps(sites))

    def write_lock(self, pythons: dict[str, str]) -> None:
        """Write ``flow.json``, each environment for its Python."""
        steps = []
        for name in STEPS:
            packages = {"alpha": "1.5"} if name == "train" else {}
            steps.append({"name": name, "requirements_sha256": requirements_sha256(None, packages)})
        environments = {name: {"python": python} for name, python in pythons.items()}
        content: dict[str, Any] = {
            "schema": 1,
            "flow": {"name": "SmallFlow", "steps": steps},
            "environments": environments,
        }
        self.directory.joinpath("flow.json").write_text(json.dumps(content))

    def start(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Start the flow as ``bazel run`` does."""
        work = self.directory / "work"
        work.mkdir(exist_ok=True)
        files = self.directory
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "XDG_CACHE_HOME": str(self.directory / "cache"),
            "METAFLOW_USER": "tester",
            "BUILD_WORKING_DIRECTORY": str(work),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
            **variables,
        }
        command = [sys.executable, "-m", "mfbazel.launch", "flow"]
        command += ["--flow", str(files / "runfiles/flows/small_flow.py"), "--lock", str(files / "flow.json")]
        command += ["--label", "//flows:small_flow", "--sites", str(files / "sites.json")]
        command += ["--runfiles", str(files / "runfiles"), "--import-root", str(files / "runfiles")]
        command += ["--first-party", str(files / "first_party.json"), "--", *arguments]
        return subprocess.run(command, cwd=files, env=environ, capture_output=True, text=True, timeout=600)


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    yield Launch(tmp_path)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """A flow that was run to its end."""
    launch = Launch(tmp_path_factory.mktemp("ran"))
    done = launch.start("--no-pylint", "run")
    assert done.returncode == 0, done.stdout + done.stderr
    return launch


def seen_by(launch: Launch, step: str) -> dict[str, Any]:
    """Return what a step found."""
    found: dict[str, Any] = json.loads((launch.directory / "work" / f"{step}.json").read_text())
    return found


def test_each_task_sees_the_packages_of_its_step_only(ran: Launch) -> None:
    seen = {name: seen_by(ran, name) for name in ("start", "train")}
    assert (seen["start"]["alpha"], seen["train"]["alpha"]) == ("ModuleNotFoundError", "1.5")
    assert (seen["train"]["settings"], seen["train"]["shapes"]) == (7, 3)
    for name in ("start", "train"):
        assert seen[name]["metaflow"] == "imported"
        assert seen[name]["beta"] == "ModuleNotFoundError"  # the launcher's
        if not any(Path(site, "pip").is_dir() for site in INSTALLED):  # the Python's below all environments
            assert seen[name]["pip"] == "ModuleNotFoundError"


def test_a_module_that_the_target_does_not_declare_is_not_found_beside_the_source(ran: Launch) -> None:
    assert seen_by(ran, "start")["undeclared"] == "ModuleNotFoundError"


def test_the_datastore_lies_where_the_user_typed_the_command(ran: Launch) -> None:
    assert ran.directory.joinpath("work", ".metaflow", "SmallFlow").is_dir()


def test_the_code_package_holds_what_the_target_declares(launch: Launch) -> None:
    done = launch.start("--no-pylint", "package", "list")
    assert done.returncode == 0, done.stdout + done.stderr
    listed = done.stdout + done.stderr
    assert "small_flow.py" in listed
    assert "lib/shapes.py" in listed
    assert "settings.py" in listed
    assert "undeclared.py" not in listed


def test_options_of_ours_are_taken_from_the_front_of_metaflows() -> None:
    assert own_options(["--", "--no-verify", "--quiet", "run"]) == (["--quiet", "run"], {"MFBAZEL_VERIFY": "0"})
    assert own_options(["run", "--no-verify"]) == (["run", "--no-verify"], {})


def test_a_second_start_makes_no_new_environment(launch: Launch) -> None:
    for _ in range(2):
        assert launch.start("--no-pylint", "show").returncode == 0
    assert len(list(launch.directory.joinpath("cache", "mfbazel", "venvs").iterdir())) == 1


def test_a_locked_wheel_of_mfbazel_does_not_meet_the_one_that_launches(launch: Launch) -> None:
    site = launch.directory / "runfiles" / "wheels" / "mfbazel-9.9"
    for name, content in {
        "mfbazel/__init__.py": "raise ImportError('the wheel of mfbazel')\n",
        "metaflow_extensions/mfbazel/plugins/mfextinit_mfbazel.py": "",
        "mfbazel-9.9.dist-info/METADATA": "Metadata-Version: 2.1\nName: mfbazel\nVersion: 9.9\n",
        "mfbazel-9.9.dist-info/top_level.txt": "metaflow_extensions\nmfbazel\n",
        "mfbazel-9.9.dist-info/RECORD": "metaflow_extensions/mfbazel/plugins/mfextinit_mfbazel.py,,\n",
    }.items():
        site.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
        site.joinpath(name).write_text(content)
    sites = launch.directory / "sites.json"
    listed = json.loads(sites.read_text())
    sites.write_text(json.dumps({name: ["wheels/mfbazel-9.9", *paths] for name, paths in listed.items()}))
    done = launch.start("--no-pylint", "show")
    assert done.returncode == 0, done.stdout + done.stderr


def test_variables_of_the_user_reach_neither_the_tasks_packages_nor_override_the_lock(launch: Launch) -> None:
    stray = launch.directory / ".local" / "lib" / f"python{launch.python}" / "site-packages"
    stray.mkdir(parents=True)
    for name in ("alpha", "stray"):
        stray.joinpath(f"{name}.py").write_text("VERSION = 'stray'\n")
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path), str(stray)])
    variables = {"PYTHONPATH": path, "PYTHONUSERBASE": str(launch.directory / ".local")}
    done = launch.start("--no-pylint", "run", MFBAZEL_FLOW_LOCK="/nowhere/flow.json", **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = seen_by(launch, "start")
    assert (seen["alpha"], seen["stray"]) == ("ModuleNotFoundError", "ModuleNotFoundError")


def test_a_launcher_locked_for_another_python_is_an_error_with_both_versions(launch: Launch) -> None:
    launch.write_lock(dict.fromkeys((*STEPS, "_launcher"), "3.1"))
    done = launch.start("show")
    assert done.returncode == 1
    assert f"locked for Python 3.1, but {sys.executable} is Python {launch.python}" in done.stderr
    assert "bazel run //flows:small_flow.lock" in done.stderr


def test_a_step_locked_for_another_python_cannot_run_here_and_the_error_says_where(launch: Launch) -> None:
    launch.write_lock({"_launcher": launch.python, "start": launch.python, "end": launch.python, "train": "3.1"})
    done = launch.start("--no-pylint", "run")
    assert done.returncode != 0
    assert "cannot run on this machine" in done.stdout + done.stderr


def test_a_missing_list_of_packages_is_named(launch: Launch) -> None:
    launch.directory.joinpath("sites.json").unlink()
    done = launch.start("show")
    assert done.returncode == 1
    assert done.stderr.startswith("error: the list of package directories, ")
