"""A flow in a directory of its own, with a lock and images, run by real Metaflow processes."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mfbazel.analyze import requirements_sha256
from mfbazel.lock_hash import environments_hash

ROOT = Path(__file__).absolute().parents[2]
FLOWS = ROOT / "tests" / "flows"
REPOSITORY = "127.0.0.1:5000/ml/small"
STEPS = ("start", "train", "end")

Packages = Mapping[str, str]

# Byte code of Metaflow is made once, not by every process.
_SHARED = Path(os.environ.get("TEST_TMPDIR") or tempfile.mkdtemp(prefix="mfbazel-extension."))


class Project:
    """A flow in a directory: ``SmallFlow``, unless another is chosen; every step without packages unless told so."""

    def __init__(self, directory: Path) -> None:
        """Describe a project in ``directory``, which exists when something is written there."""
        self.directory = directory
        self.flow, self.file = "SmallFlow", "small_flow.py"
        self.lock = directory / "flow.json"
        self.images = directory / "images.json"
        self.variables: dict[str, str] = {"METAFLOW_DEFAULT_ENVIRONMENT": "bazel", "MFBAZEL_VERIFY": "0"}

    def copy_flow(self, file: str, flow: str, packages: Mapping[str, Packages]) -> None:
        """Choose a flow of ``tests/flows``, locked and pushed; ``packages`` are those of every step, by its name."""
        self.flow, self.file = flow, file
        shutil.copy(FLOWS / file, self.directory)
        steps, train = tuple(packages), packages.get("train", {})
        self.write_lock(train, steps=steps, others=packages)
        self.write_images(train, steps=steps, others=packages)

    def write_flow(
        self, train: str = "", *, flow: str = "", start: str = "", body: str = "pass", imports: str = "pypi"
    ) -> None:
        """Write the flow: start → train → end, with these decorators and this code in ``train``."""
        self.directory.joinpath("small_flow.py").write_text(
            f"from metaflow import FlowSpec, step, {imports}\n"
            f"{flow}\nclass SmallFlow(FlowSpec):\n"
            f"    {start}\n    @step\n    def start(self):\n        self.next(self.train)\n"
            f"    {train}\n    @step\n    def train(self):\n        {body}\n        self.next(self.end)\n"
            "    @step\n    def end(self):\n        pass\n"
            "if __name__ == '__main__':\n    SmallFlow()\n"
        )

    def write_lock(
        self,
        train: Packages,
        python: str | None = None,
        steps: Sequence[str] = STEPS,
        others: Mapping[str, Packages] | None = None,
    ) -> None:
        """Write ``flow.json`` with what was locked for ``train``, for ``others`` (and for all steps: the Python)."""
        packages = {**(others or {}), "train": train}
        entries = []
        for name in steps:
            wanted = packages.get(name, {})
            declared = [{"name": package, "specifier": f"=={version}"} for package, version in wanted.items()]
            entries.append(
                {
                    "name": name,
                    "environment": name,
                    "disabled": False,
                    "python": python,
                    "declared": declared,
                    "requirements_sha256": requirements_sha256(python, wanted),
                }
            )
        environments = {name: {"python": "3.14", "wheels": {"linux/amd64": []}} for name in steps}
        content = {"schema": 1, "flow": {"name": self.flow, "steps": entries}, "environments": environments}
        self.lock.write_text(json.dumps(content))
        self.variables["MFBAZEL_FLOW_LOCK"] = str(self.lock)
        self.variables["MFBAZEL_FLOW_LABEL"] = "//flows:small_flow"

    def lock_of(self, step: str) -> str:
        """Return the hash of the packages that :meth:`write_lock` locked for ``step``."""
        return environments_hash(json.loads(self.lock.read_text())["environments"], [step])

    def make_pythons(self) -> None:
        """Make an interpreter for every environment of the lock, as the launcher does: here this test's own."""
        pythons = self.directory / "pythons"
        for environment in json.loads(self.lock.read_text())["environments"]:
            pythons.joinpath(environment, "bin").mkdir(parents=True)
            pythons.joinpath(environment, "bin", "python").symlink_to(sys.executable)
        self.variables["MFBAZEL_STEP_PYTHON_DIR"] = str(pythons)

    def write_images(
        self,
        train: Packages,
        python: str | None = None,
        *,
        pushed: bool = True,
        steps: Sequence[str] = STEPS,
        others: Mapping[str, Packages] | None = None,
        repository: str = REPOSITORY,
    ) -> None:
        """Write ``images.json`` as a push (or only a build) of the lock with these packages would."""
        packages = {**(others or {}), "train": train}
        entries = {}
        for name in steps:
            digest = digest_of(name)
            entries[name] = {
                "digest": digest,
                "requirements_sha256": requirements_sha256(python, packages.get(name, {})),
                "lock": self.lock_of(name) if self.lock.exists() else "0" * 16,
                "layers": {platform: [digest_of(f"{name} {platform}")] for platform in ("linux/amd64", "linux/arm64")},
                **({"image": f"{repository}@{digest}"} if pushed else {}),
            }
        content = {"schema": 1, "flow": self.flow, "label": "//flows:small_flow", "steps": entries}
        self.images.write_text(json.dumps(content))
        self.variables["MFBAZEL_IMAGES"] = str(self.images)

    @staticmethod
    def path() -> str:
        """Return the PYTHONPATH of Metaflow's process: this test's own, and the extension."""
        return os.pathsep.join([str(ROOT / "mfbazel" / "extension"), str(ROOT), *filter(None, sys.path)])

    def environ(self) -> dict[str, str]:
        """Return the environment of Metaflow's process, with nothing of the user's own."""
        inherited = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
        return {
            **{name: os.environ[name] for name in inherited if name in os.environ},
            "HOME": str(self.directory),
            "METAFLOW_USER": "tester",
            "PYTHONPATH": self.path(),
            "PYTHONPYCACHEPREFIX": str(_SHARED / "pycache"),
            "XDG_CACHE_HOME": str(_SHARED / "cache"),
            **self.variables,
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Metaflow's command line on the flow."""
        return self.python(self.file, "--no-pylint", *arguments)

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the project's directory."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env=self.environ(),
            capture_output=True,
            text=True,
            timeout=600,
        )


def plugin(name: str) -> Any:
    """Return a module of the extension, imported as Metaflow imports it."""
    directory = str(ROOT / "mfbazel" / "extension")
    if directory not in sys.path:
        sys.path.append(directory)
    importlib.import_module("metaflow")
    return importlib.import_module(f"metaflow_extensions.mfbazel.plugins.{name}")


def digest_of(step: str) -> str:
    """Return the digest that :meth:`Project.write_images` gives the image of ``step``."""
    return f"sha256:{step.encode().hex():0>64}"


def image_of(step: str) -> str:
    """Return the reference that the environment must give ``step``."""
    return f"{REPOSITORY}@{digest_of(step)}"


def words(done: subprocess.CompletedProcess[str]) -> str:
    """Return everything that was printed, with one space between words: Metaflow wraps and indents."""
    return " ".join((done.stdout + done.stderr).split())
