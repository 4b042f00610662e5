"""A flow in a directory of its own, with a lock and images, run by real Metaflow processes."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mfbazel.analyze import requirements_sha256
from mfbazel.lock_hash import environments_hash

ROOT = Path(__file__).absolute().parents[2]
REPOSITORY = "127.0.0.1:5000/ml/small"
STEPS = ("start", "train", "end")

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

    def write_lock(self, train: Packages, python: str | None = None, steps: tuple[str, ...] = STEPS) -> None:
        """Write ``flow.json`` with what was locked for ``train`` (and for all steps: the Python)."""
        entries = []
        for name in steps:
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
        environments = {name: {"python": "3.14", "wheels": {"linux/amd64": []}} for name in steps}
        content = {"schema": 1, "flow": {"name": "SmallFlow", "steps": entries}, "environments": environments}
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
        steps: tuple[str, ...] = STEPS,
        repository: str = REPOSITORY,
    ) -> None:
        """Write ``images.json`` as a push (or only a build) of the lock with ``train`` would."""
        entries = {}
        for name in steps:
            digest = digest_of(name)
            entries[name] = {
                "digest": digest,
                "requirements_sha256": requirements_sha256(python, train if name == "train" else {}),
                "lock": self.lock_of(name) if self.lock.exists() else "0" * 16,
                "layers": {platform: [digest_of(f"{name} {platform}")] for platform in ("linux/amd64", "linux/arm64")},
                **({"image": f"{repository}@{digest}"} if pushed else {}),
            }
        content = {"schema": 1, "flow": "SmallFlow", "label": "//flows:small_flow", "steps": entries}
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


def simulated_s3(endpoint: str) -> dict[str, str]:
    """Make the bucket of a flow's datastore in the simulated AWS at ``endpoint``; return the variables that name it."""
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/bucket", method="PUT")).close()
    return keys | {
        "METAFLOW_DEFAULT_DATASTORE": "s3",
        "METAFLOW_DATASTORE_SYSROOT_S3": "s3://bucket/metaflow",
        "METAFLOW_S3_ENDPOINT_URL": endpoint,
    }


def words(done: subprocess.CompletedProcess[str]) -> str:
    """Return everything that was printed, with one space between words: Metaflow wraps and indents."""
    return " ".join((done.stdout + done.stderr).split())
