"""What the tests that read flows by running them share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mfbazel.analyze.dynamic import process

FLOW = """\
from metaflow import FlowSpec, step
class F(FlowSpec):
    @step
    def start(self):
        self.next(self.end)
    @step
    def end(self):
        pass
F()
"""
OPTIONS = ("--quiet", "--no-pylint", "--environment=bazel", "--metadata=local", "--datastore=s3")
SIDECARS = ("--datastore-root=s3://x/y", "--event-logger=nullSidecarLogger", "--monitor=nullSidecarMonitor")


@pytest.fixture(scope="session", autouse=True)
def _compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compile what every flow imports before the first one is run.

    The process that runs a flow may write no byte code, and under Bazel packages come without: compiling Metaflow for
    each flow would take four times as long as all the rest.
    """
    run = process.run
    compiled = False

    def run_compiled(*arguments: Any) -> Any:
        nonlocal compiled
        if not compiled:
            compiled = True
            _compile(tmp_path_factory.mktemp("compiled"))
        return run(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "run", run_compiled)
        yield


def _compile(directory: Path) -> None:
    """Have Python keep the byte code of what a flow imports, by showing one; whether it can does not matter."""
    flow = directory / "flow.py"
    flow.write_text(FLOW, encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("METAFLOW", "PYTHONDONT"))}
    own = {
        "HOME": str(directory),
        "METAFLOW_HOME": str(directory),
        "METAFLOW_USER": "tests",
        "PYTHONPATH": os.pathsep.join([str(process.EXTENSION), *filter(None, sys.path)]),
    }
    subprocess.run(
        [sys.executable, str(flow), *OPTIONS, *SIDECARS, "show"],
        cwd=directory,
        env=kept | own,
        stdout=subprocess.DEVNULL,
        check=True,
    )
