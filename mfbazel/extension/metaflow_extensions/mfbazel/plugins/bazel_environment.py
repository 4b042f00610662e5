"""The environment ``bazel``: each step in the image that Bazel built for it, or on the packages locked for it."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from metaflow import current, metaflow_git
from metaflow.metaflow_environment import MetaflowEnvironment

from . import (
    bazel_bytecode,
    bazel_cli,
    bazel_container,
    bazel_images,
    bazel_package,
    bazel_policy,
    bazel_push,
    bazel_report,
    bazel_requirements,
    bazel_task,
    bazel_verify,
    bazel_versions,
)
from .bazel_errors import MissingInterpreterException, NotStartedByBazelException, UnreadableFileException
from .bazel_lock import (
    IMAGES_VARIABLE,
    LABEL_VARIABLE,
    LOCK_VARIABLE,
    WORKSPACE_VARIABLE,
    Lock,
    read_images,
    read_lock,
    target,
)

_LOCAL_DECORATOR = "bazel_local"

STEP_PYTHON_VARIABLE = "MFBAZEL_STEP_PYTHON_DIR"
"""Environment variable: directory that holds ``<environment>/bin/python`` for every environment of the lock."""


class BazelEnvironment(MetaflowEnvironment):  # type: ignore[misc]
    """Metaflow's environment ``bazel``.

    Only the process that launches a run or deploys a flow reads the lock and the images (:meth:`init_environment`); the
    tasks find what was decided in their command lines, and never fail for the lack of a file.
    """

    TYPE = "bazel"

    def __init__(self, flow: Any) -> None:
        super().__init__(flow)
        self._flow = flow
        self._environments: dict[str, str] = {}
        self._runs: list[bazel_images.StepRun] = []
        self._locks: dict[str, str | None] = {}
        self._records: dict[str, str] = {}

    def validate_environment(self, echo: Callable[..., None], datastore_type: str) -> None:
        """Refuse a Metaflow that is too old, and prepare a newer one, before any command.

        Raises:
            UnsupportedMetaflowException: it is.
        """
        bazel_versions.require_supported()
        bazel_versions.allow_in_spin(_LOCAL_DECORATOR)
        super().validate_environment(echo, datastore_type)

    def init_environment(self, echo: Callable[..., None]) -> None:
        """Compare the lock with the code, give every remote step its image, and see that the registries have them.

        Metaflow calls it where a run or a deployment starts, after every decorator is attached, and where it only makes
        the code package: then nothing is asked, built or said. Otherwise it reads two files, and builds nothing unless
        ``MFBAZEL_PUSH=auto`` says so.

        Raises:
            NotStartedByBazelException: nothing names the lock or the images.
            UnreadableFileException: one of the files is damaged, or of another version of mfbazel.
            StaleLockException: a step declares something else than what was locked.
            DependenciesException: a step declares what no lock can hold.
            NotPushedException: a remote step has no pushed image and no ``image=`` of its own.
            StaleImageException: the image of a remote step was made from an older lock.
            NotAllowedException: the policy of the repository does not allow an image, a package or a licence.
            ContainerException: see :func:`.bazel_container.prepare`.
            PushFailedException: the push that the user asked for failed.
            MissingImageException, UnverifiedImageException: see :func:`.bazel_verify.verify`.
        """
        _warn_of_netflixext(echo)
        command = bazel_cli.running()
        lock = self._read_lock()
        if lock is not None and not command.skips_decorators:
            for step in self._flow:
                bazel_requirements.check(step.name, bazel_requirements.of_step(step), lock)
        if not command.only_packs and bazel_images.wants_image(self._flow):
            bazel_push.push_if_asked(echo)
        images = functools.cache(read_images)
        self._runs = bazel_images.assign(self._flow, lock, images)
        if not command.only_packs:
            bazel_policy.check([*self._runs, *bazel_container.given_images(self._flow)], lock, images)
            bazel_verify.verify(self._runs)
            for line in bazel_report.report(self._runs):
                echo(line, indent=True, err=True)
        if command.starts_tasks:
            bazel_container.prepare(self._flow, echo)

    def _read_lock(self) -> Lock | None:
        """Read the lock, and remember the environment of every step."""
        lock = read_lock()
        if lock is None and not os.environ.get(IMAGES_VARIABLE):
            raise NotStartedByBazelException(
                f"--environment=bazel needs the lock of the flow {self._flow.name}. Start it with "
                f"`bazel run {target()} -- run …`, which names the lock in {LOCK_VARIABLE}; without Bazel, name the "
                f"images.json of a push in {IMAGES_VARIABLE}."
            )
        if lock is not None:
            if lock.flow != self._flow.name:
                raise UnreadableFileException(
                    f"{lock.path} is the lock of the flow {lock.flow}, not of {self._flow.name}: {LOCK_VARIABLE} names "
                    "the wrong file."
                )
            self._environments = {name: step.environment for name, step in lock.steps.items()}
            self._locks = {name: step.lock for name, step in lock.steps.items()}
        return lock

    def decospecs(self) -> tuple[str, ...]:
        """Attach the decorator that starts local tasks on the interpreter of their step."""
        return (_LOCAL_DECORATOR, *super().decospecs())

    def executable(self, step_name: str, default: str | None = None) -> str:
        """Return the interpreter of ``step_name`` as a command line in its container names it.

        The images have it first on PATH, under the name that any image with Python has. Where a task asks, to start
        others of its own step beside it (@parallel on one machine), it is the interpreter that runs the task.
        """
        if current.is_running_flow:
            return sys.executable
        return str(super().executable(step_name, default))

    def interpreter(self, step_name: str) -> str | None:
        """Return the interpreter that runs ``step_name`` on this machine, None for the one that runs Metaflow.

        Raises:
            MissingInterpreterException: the launcher made interpreters, and none for this step.
        """
        directory = os.environ.get(STEP_PYTHON_VARIABLE)
        if not directory:
            return None
        python = Path(directory, self._environments.get(step_name, step_name), "bin", "python")
        if not python.is_file():
            raise MissingInterpreterException(
                f"Step *{step_name}* cannot run on this machine: there is no {python}. "
                "Its environment was locked for another Python than the one here; run the step in its image "
                "(`run --with batch` or `--with kubernetes`)."
            )
        return str(python)

    def task_record(self, step_name: str, container: Any = None) -> str:
        """Return what a task of ``step_name`` that runs on this machine records, as JSON text.

        A step that another decorator sends elsewhere may still run here, as the fallback of @catch. ``container`` is
        the decorator of a step that runs in a container here.
        """
        if step_name not in self._records:
            if container is not None:
                run = bazel_container.step_run(container, step_name, self._locks.get(step_name))
            else:
                lock = self._locks.get(step_name) if self.interpreter(step_name) else None
                run = bazel_images.StepRun(step_name, lock=lock)
            self._records[step_name] = json.dumps(bazel_task.of_step(run, os.environ.get(LABEL_VARIABLE)))
        return self._records[step_name]

    def get_environment_info(self, include_ext_info: bool = False) -> dict[str, Any]:
        """Return Metaflow's, with the git commit of the workspace: the flow runs from a runfiles tree outside of it."""
        if workspace := os.environ.get(WORKSPACE_VARIABLE):
            # It remembers its first answer, and Metaflow asks for the runfiles tree.
            metaflow_git.get_repository_info(workspace)
        return dict(super().get_environment_info(include_ext_info))

    def add_to_package(self) -> Iterator[tuple[str, str, Any]]:
        """Yield what the tasks record, byte code of Metaflow, and first-party files outside the flow's directory.

        The latter by their paths of import.

        Raises:
            UnreadableFileException: see :func:`.bazel_package.first_party`.
        """
        yield from super().add_to_package()
        files = bazel_package.first_party()
        if any(run.image is not None for run in self._runs):
            self._scratch = tempfile.TemporaryDirectory(prefix="mfbazel-package.")  # stays until this process ends
            files[bazel_task.FILE] = record = Path(self._scratch.name, bazel_task.FILE)
            record.write_text(bazel_task.package_file(self._runs, os.environ.get(LABEL_VARIABLE)), encoding="utf-8")
            yield from bazel_bytecode.packaged()
        yield from bazel_versions.packaged(files)

    @classmethod
    def get_client_info(cls, flow_name: str, metadata: Any) -> str:  # noqa: ARG003 - Metaflow's signature
        """Return what Metaflow's client says of a task's environment."""
        return f"Bazel environment of {flow_name}: the packages of a task are those of its image"


def _warn_of_netflixext(echo: Callable[..., None]) -> None:
    """Say that two extensions replace the same decorators."""
    try:
        found = importlib.util.find_spec("metaflow_extensions.netflix_ext")
    except (ImportError, ValueError):
        found = None
    if found is not None:
        echo(
            "Warning: metaflow-netflixext is installed beside mfbazel; both replace @pypi, @conda, @pypi_base and "
            "@conda_base, and the one that Metaflow loads last wins. Install only one of them where the flow is "
            "launched.",
            err=True,
        )
