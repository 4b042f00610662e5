"""A flow in a directory of its own, with a lock and images, run by real Metaflow processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from mfbazel.analyze import requirements_sha256

ROOT = Path(__file__).absolute().parents[2]
REPOSITORY = "127.0.0.1:5000/ml/small"

Packages = Mapping[str, str]


class Project:
    """The flow ``SmallFlow`` in a directory; every step without packages unless told otherwise."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lock = directory / "flow.json"
        self.images = directory / "images.json"
        self.variables: dict[str, str] = {"METAFLOW_DEFAULT_ENVIRONMENT": "bazel", "MFBAZEL_VERIFY": "0"}

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

    def write_lock(self, train: Packages, python: str | None = None, steps: tuple[str, ...] = ()) -> None:
        """Write ``flow.json`` with what was locked for ``train`` (and for all steps: the Python)."""
        entries = []
        for name in steps or ("start", "train", "end"):
            packages = train if name == "train" else {}
            declared = [{"name": package, "specifier": f"=={version}"} for package, version in packages.items()]
            entries.append(
                {
                    "name": name,
                    "environment": name,
                    "disabled": False,
                    "python": python,
                    "declared": declared,
                    "requirements_sha256": requirements_sha256(python, packages),
                }
            )
        content = {"schema": 1, "flow": {"name": "SmallFlow", "steps": entries}, "environments": {}}
        self.lock.write_text(json.dumps(content))
        self.variables["MFBAZEL_FLOW_LOCK"] = str(self.lock)
        self.variables["MFBAZEL_FLOW_LABEL"] = "//flows:small_flow"

    def write_images(self, train: Packages, python: str | None = None, *, pushed: bool = True) -> None:
        """Write ``images.json`` as a push (or only a build) of the lock with ``train`` would."""
        steps = {}
        for name in ("start", "train", "end"):
            digest = digest_of(name)
            steps[name] = {
                "digest": digest,
                "requirements_sha256": requirements_sha256(python, train if name == "train" else {}),
                **({"image": f"{REPOSITORY}@{digest}"} if pushed else {}),
            }
        content = {"schema": 1, "flow": "SmallFlow", "label": "//flows:small_flow", "steps": steps}
        self.images.write_text(json.dumps(content))
        self.variables["MFBAZEL_IMAGES"] = str(self.images)

    @staticmethod
    def path() -> str:
        """Return the PYTHONPATH of Metaflow's process: this test's own, and the extension."""
        return os.pathsep.join([str(ROOT / "mfbazel" / "extension"), str(ROOT), *filter(None, sys.path)])

    def run(self, *arguments: str, file: str = "small_flow.py") -> subprocess.CompletedProcess[str]:
        """Run Metaflow's command line on the flow."""
        inherited = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
        environ = {name: os.environ[name] for name in inherited if name in os.environ}
        environ |= {
            "HOME": str(self.directory),
            "METAFLOW_USER": "tester",
            "PYTHONPATH": self.path(),
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.variables,
        }
        return subprocess.run(
            [sys.executable, file, "--no-pylint", *arguments],
            cwd=self.directory,
            env=environ,
            capture_output=True,
            text=True,
            timeout=180,
        )


def digest_of(step: str) -> str:
    """Return the digest that :meth:`Project.write_images` gives the image of ``step``."""
    return f"sha256:{step.encode().hex():0>64}"


def image_of(step: str) -> str:
    """Return the reference that the environment must give ``step``."""
    return f"{REPOSITORY}@{digest_of(step)}"


def words(done: subprocess.CompletedProcess[str]) -> str:
    """Return everything that was printed, with one space between words: Metaflow wraps and indents."""
    return " ".join((done.stdout + done.stderr).split())
