"""Local tasks in the image of their step: ``run --with container``."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import metaflow
from metaflow.decorators import StepDecorator

from . import bazel_task
from .bazel_errors import ContainerException
from .bazel_images import REMOTE_DECORATORS, StepRun, pushed_image
from .bazel_lock import IMAGES_VARIABLE, LABEL_VARIABLE, WORKSPACE_VARIABLE, read_images

if TYPE_CHECKING:
    from mfbazel.container import Image

NAME = "container"
_TASK_COMMANDS = ("step", "spin-step")
_RECORDED = {"container-image": "MFBAZEL_CONTAINER_IMAGE", "container-engine": "MFBAZEL_CONTAINER_ENGINE"}


class ContainerDecorator(StepDecorator):  # type: ignore[misc]
    """Runs the step's tasks on this machine in a container of its image, with podman, docker or bubblewrap.

    The task has the packages of the image, and Metaflow, the flow and first-party code from this machine. The working
    directory, the local datastore, the directory of temporary files, environment variables and the network are those of
    this machine. Steps with @batch or @kubernetes are left to them.

    Parameters
    ----------
    image : str, optional
        Image of the step: a reference, or the directory of an OCI layout. Default: the image that this workspace
        builds for the step.
    engine : str, default "auto"
        "podman", "docker", "bubblewrap", or "auto": the first of them that works here.
    host_volumes : list, optional
        Further directories of this machine that the task sees, at the same paths.
    """

    name = NAME
    defaults: dict[str, Any] = {"image": None, "engine": "auto", "host_volumes": None}  # noqa: RUF012 - Metaflow's

    def step_init(
        self, flow: Any, graph: Any, step: str, decos: Any, environment: Any, flow_datastore: Any, logger: Any
    ) -> None:
        """Remember the step, and where its results go.

        Raises:
            ContainerException: an attribute is wrong.
        """
        del graph, environment
        self._flow = flow
        self._step = step
        self._decos = decos
        self._datastore = flow_datastore
        self._logger = logger
        self._command: list[str] | None = None
        self.prepared: Image | None = None
        _check_attributes(step, self.attributes)

    def runtime_step_cli(self, cli_args: Any, retry_count: int, max_user_code_retries: int, ubf_context: Any) -> None:
        """Put the container before the task's command line.

        Raises:
            ContainerException: the image cannot be had, or nothing here starts containers.
        """
        del retry_count, max_user_code_retries, ubf_context
        if cli_args.commands[0] not in _TASK_COMMANDS or not is_local(self._decos):
            return
        if self._command is None:
            if self.prepared is None:
                prepare(self._flow, lambda text: self._logger(text, system_msg=True))
            self._command = self._start()
        flow = Path(cli_args.entrypoint[-1]).absolute()
        cli_args.entrypoint[:] = [*self._command, "--", "python", "-u", str(flow)]

    def task_pre_step(
        self,
        step_name: str,
        task_datastore: Any,
        metadata: Any,
        run_id: str,
        task_id: str,
        flow: Any,
        graph: Any,
        retry_count: int,
        max_user_code_retries: int,
        ubf_context: Any,
        inputs: Any,
    ) -> None:
        """Record what the task runs in."""
        del task_datastore, flow, graph, max_user_code_retries, ubf_context, inputs
        found = {field: os.environ[variable] for field, variable in _RECORDED.items() if variable in os.environ}
        if found:
            bazel_task.register_values(found, step_name, metadata, run_id, task_id, retry_count)

    def _start(self) -> list[str]:
        """Return the command line that starts a container for a task of the step, without the task's own."""
        from mfbazel.container import ContainerError, plan

        assert self.prepared is not None
        roots = [Path(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
        packages = _packages()
        try:
            planned = plan(
                self.prepared,
                workdir=Path.cwd(),
                code=[*roots, *packages, Path(sys.argv[0]).absolute().parent],
                import_roots=[*roots, *(package.parent for package in packages)],
                writable=_datastores(self._datastore),
                volumes=_volumes(self.attributes["host_volumes"]),
                environ=os.environ,
            )
        except ContainerError as error:
            raise ContainerException(f"Step *{self._step}*: {error}") from error
        return [sys.executable, "-P", "-m", "mfbazel.container", "run", "--plan", planned.to_json()]


def prepare(flow: Any, say: Callable[[str], None]) -> None:
    """Have the images of all steps with @container ready: built, pulled or unpacked.

    Raises:
        ContainerException: an image cannot be had, or nothing here starts containers.
        NotPushedException: without Bazel: the flow was not pushed.
        StaleImageException: without Bazel: the image of a step was made from an older lock.
    """
    decorators = {step.name: deco for step in flow if (deco := of_step(step)) is not None}
    if not decorators:
        return
    from mfbazel.container import ContainerError, Wanted
    from mfbazel.container import prepare as prepare_images

    wanted = {
        step: Wanted(deco.attributes["engine"], deco.attributes["image"] or None) for step, deco in decorators.items()
    }
    try:
        images = prepare_images(wanted, lambda: _own_images(flow, say), os.environ, say)
    except ContainerError as error:
        raise ContainerException(str(error)) from error
    for step, image in images.items():
        decorators[step].prepared = image


def of_step(step: Any) -> ContainerDecorator | None:
    """Return the decorator of a step whose tasks run in containers here."""
    if not is_local(step.decorators):
        return None
    return next((deco for deco in step.decorators if deco.name == NAME), None)


def step_run(container: ContainerDecorator, step: str, lock: str | None) -> StepRun:
    """Return what the tasks of a step with @container run on; ``lock`` is the hash of the step's packages."""
    name = container.prepared.name if container.prepared is not None else None
    digest = name if name is not None and name.startswith("sha256:") else None
    return StepRun(step, name, given=bool(container.attributes["image"]), lock=lock, digest=digest)


def given_images(flow: Any) -> list[StepRun]:
    """Return the images that the user chose for steps with @container, but for directories on this machine."""
    decorators = {step.name: deco for step in flow if (deco := of_step(step)) is not None}
    given = {name: deco.attributes["image"] for name, deco in decorators.items() if deco.attributes["image"]}
    return [StepRun(name, image, given=True) for name, image in given.items() if not Path(image).is_dir()]


def is_local(decorators: Sequence[Any]) -> bool:
    """Say whether tasks of a step with these decorators run on this machine."""
    return not any(deco.name in REMOTE_DECORATORS for deco in decorators)


def _own_images(flow: Any, say: Callable[[str], None]) -> Mapping[str, str | Path]:
    """Return the image of every step: as this workspace builds it, or without Bazel as it was pushed."""
    label, workspace = os.environ.get(LABEL_VARIABLE), os.environ.get(WORKSPACE_VARIABLE)
    if not label or not workspace or os.environ.get(IMAGES_VARIABLE):
        return _pushed_images(flow)
    from mfbazel.container import build_images

    say(f"building the images of {label}")
    runfiles = os.environ.get("MFBAZEL_RUNFILES")
    return build_images(label, Path(workspace), os.environ, Path(runfiles) if runfiles else None).steps


def _pushed_images(flow: Any) -> dict[str, str | Path]:
    """Return the reference of the pushed image of every step with @container that has no image of its own."""
    images = read_images()
    return {
        step.name: str(pushed_image(step, images).reference)
        for step in flow
        if (deco := of_step(step)) is not None and not deco.attributes["image"]
    }


def _packages() -> list[Path]:
    """Return the directories of Metaflow and its extensions."""
    extensions = importlib.import_module("metaflow_extensions").__path__
    return [Path(metaflow.__file__).absolute().parent, *(Path(path).absolute() for path in extensions)]


def _datastores(flow_datastore: Any) -> list[Path]:
    """Return the local directories that tasks write artifacts and metadata to."""
    from metaflow.plugins.datastores.local_storage import LocalStorage

    roots = [LocalStorage.get_datastore_root_from_config(_silent, create_on_absent=False)]
    with contextlib.suppress(ImportError):  # Metaflow without `spin`
        from metaflow.plugins.datastores.spin_storage import SpinStorage

        roots.append(SpinStorage.get_datastore_root_from_config(_silent, create_on_absent=False))
    if flow_datastore.TYPE in ("local", "spin"):
        roots.append(flow_datastore.datastore_root)
    return [Path(root).absolute() for root in roots if root]


def _silent(*_: Any, **__: Any) -> None:
    pass


def _volumes(value: Any) -> list[str]:
    if not value:
        return []
    return [value] if isinstance(value, str) else [str(volume) for volume in value]


def _check_attributes(step: str, attributes: Mapping[str, Any]) -> None:
    for name, kinds in (("image", str), ("engine", str), ("host_volumes", (str, list, tuple))):
        value = attributes[name]
        if value is not None and not isinstance(value, kinds):
            raise ContainerException(f"Step *{step}*: @container({name}={value!r}) is of the wrong type.")
