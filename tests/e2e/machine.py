"""Everything that a flow needs to run on Batch, on one machine and on loopback only."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.e2e.cloud import BATCH_VARIABLES, BUCKET, CREDENTIALS, QUEUE, Cloud
from tests.e2e.containers import Engine, containers_for_ordinary_users_are_optional, search_path
from tests.e2e.flows import CommandLine, Finished
from tests.e2e.metadata_service import MetadataService
from tests.e2e.processes import LOOPBACK, tail
from tests.e2e.registry import Registry
from tests.e2e.tripwire import Tripwire

Say = Callable[[str], None]

# Metaflow starts as many processes as it is allowed to for every few files that it reads or writes.
_ONE_WORKER = {"METAFLOW_S3_WORKER_COUNT": "1"}


@dataclass(frozen=True)
class Machine:
    """The servers, and how a person's commands run against them."""

    directory: Path
    """Everything that is written lies below it; its path is short."""
    registry: Registry
    engine: Engine
    cloud: Cloud
    tripwire: Tripwire
    environ: dict[str, str]
    """Environment of the commands that a person types."""
    say: Say

    def run(self, command: CommandLine, *arguments: str, name: str) -> Finished:
        """Run a target of the flow; ``name`` names its log, and is said aloud with the time taken."""
        began = time.monotonic()
        finished = command.run(arguments, self.environ, self.directory / "logs" / f"{name}.log")
        self.say(f"{name}: exit code {finished.status}, {time.monotonic() - began:.1f} s")
        return finished

    def read_run(self, flow: str, run: str) -> dict[str, Any]:
        """Return what Metaflow's client says of a run; see :func:`tests.e2e.read_run.describe_run`."""
        script = Path(__file__).with_name("read_run.py")
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
        done = subprocess.run(
            [sys.executable, script, flow, run],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**self.environ, "PYTHONPATH": path},
            cwd=self.directory / "work",
        )
        if done.returncode:
            raise AssertionError(f"the run {flow}/{run} cannot be read back:\n{done.stderr}")
        described: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return described

    def logs(self) -> str:
        """Return the ends of all logs, for a failure's message."""
        ends = [(file.name, tail(file)) for file in sorted((self.directory / "logs").glob("*.log"))]
        return "\n\n".join(f"--- {name}\n{end}" for name, end in [*ends, *self.cloud.job_logs()])


@contextmanager
def started_machine(crane: Path, say: Say) -> Iterator[Machine]:
    """Start all servers; stop them and remove what they left, whatever happens.

    Raises:
        ServiceError: one of them does not start.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="mfbazel-e2e."))
        stack.callback(_remove, directory)
        for name in ("logs", "blobs", "engine", "home", "work", "workspace"):
            (directory / name).mkdir()
        logs = directory / "logs"
        stack.callback(_keep, logs)
        tripwire = stack.enter_context(Tripwire())
        metadata = stack.enter_context(MetadataService())
        registry = Registry(crane, directory / "blobs", logs / "registry.log")
        stack.enter_context(registry)
        variables = {**CREDENTIALS, **BATCH_VARIABLES, **_ONE_WORKER, **tripwire.variables}
        engine = Engine(directory / "engine", registry.host, variables, logs / "podman.log")
        stack.enter_context(engine)
        cloud = Cloud(engine.address, directory / "home", logs / "moto.log")
        stack.enter_context(cloud)
        environ = _environ(directory, cloud, cloud.prepare(), metadata)
        say(f"registry, container engine and cloud started: {time.monotonic() - began:.1f} s")
        yield Machine(directory, registry, engine, cloud, tripwire, environ, say)


@contextmanager
def machine_of_test(request: pytest.FixtureRequest, crane: Path) -> Iterator[Machine]:
    """Start all servers for a test, which says aloud what takes long; see :func:`started_machine`."""
    began = time.monotonic()

    def say(text: str) -> None:
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(f"[{time.monotonic() - began:6.1f} s] {text}", flush=True)

    with stopped_kindly(), ExitStack() as stack:
        with containers_for_ordinary_users_are_optional():
            machine = stack.enter_context(started_machine(crane, say))
        yield machine


@contextmanager
def stopped_kindly() -> Iterator[None]:
    """Let the signal with which Bazel ends a test that takes too long stop the servers, as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _environ(directory: Path, cloud: Cloud, role: str, metadata: MetadataService) -> dict[str, str]:
    """Return the environment of a person who is set up for Metaflow on AWS, and nothing of this process's own."""
    return {
        "BUILD_WORKING_DIRECTORY": str(directory / "work"),
        "BUILD_WORKSPACE_DIRECTORY": str(directory / "workspace"),
        "HOME": str(directory / "home"),
        "LANG": "C.UTF-8",
        "NO_PROXY": LOOPBACK,
        "PATH": search_path(),
        "TMPDIR": str(directory),
        "MFBAZEL_STATE_DIR": str(directory / "state"),
        "XDG_CACHE_HOME": str(directory / "cache"),
        "AWS_ENDPOINT_URL": cloud.endpoint,
        "METAFLOW_BATCH_JOB_QUEUE": QUEUE,
        "METAFLOW_CLIENT_CACHE_PATH": str(directory / "cache" / "metaflow"),
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(directory / "work"),
        "METAFLOW_DATASTORE_SYSROOT_S3": f"s3://{BUCKET}/metaflow",
        "METAFLOW_DEFAULT_DATASTORE": "s3",
        "METAFLOW_DEFAULT_METADATA": "service",
        "METAFLOW_ECS_S3_ACCESS_IAM_ROLE": role,
        "METAFLOW_HOME": str(directory / "home" / ".metaflowconfig"),
        "METAFLOW_S3_ENDPOINT_URL": cloud.endpoint,
        "METAFLOW_SERVICE_URL": metadata.address,
        "METAFLOW_USER": "tester",
        **_ONE_WORKER,
        **CREDENTIALS,
    }


def _keep(logs: Path) -> None:
    """Copy the logs to where Bazel keeps what tests leave."""
    if kept := os.environ.get("TEST_UNDECLARED_OUTPUTS_DIR"):
        shutil.copytree(logs, kept, dirs_exist_ok=True)


def _remove(directory: Path) -> None:
    """Remove the directory; unpacked images hold directories that their owner may not write to."""
    for parent, names, _ in os.walk(directory):
        for path in (Path(parent, name) for name in names):
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(directory)
