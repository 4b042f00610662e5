"""The environment ``bazel``: each step in the image that Bazel built for it, or on the packages locked for it."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from metaflow import current
from metaflow.metaflow_environment import MetaflowEnvironment

from . import bazel_requirements, bazel_versions
from .bazel_errors import (
    MissingInterpreterException,
    NotPushedException,
    NotStartedByBazelException,
    StaleImageException,
    UnreadableFileException,
)
from .bazel_lock import IMAGES_VARIABLE, LOCK_VARIABLE, Images, Lock, command, read_images, read_lock, target

REMOTE_DECORATORS = ("batch", "kubernetes")
"""Step decorators whose ``image`` is set."""
_LOCAL_DECORATOR = "bazel_local"

STEP_PYTHON_VARIABLE = "MFBAZEL_STEP_PYTHON_DIR"
"""Environment variable: directory that holds ``<environment>/bin/python`` for every environment of the lock."""
FIRST_PARTY_VARIABLE = "MFBAZEL_FIRST_PARTY"
"""Environment variable: JSON file, path in the code package → file, of the code outside the flow's directory."""
RUNFILES_VARIABLE = "MFBAZEL_RUNFILES"
"""Environment variable: directory that relative paths in that file start from."""


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

    def validate_environment(self, echo: Callable[..., None], datastore_type: str) -> None:
        """Refuse a Metaflow that is too old, and prepare a newer one, before any command.

        Raises:
            UnsupportedMetaflowException: it is.
        """
        bazel_versions.require_supported()
        bazel_versions.allow_in_spin(_LOCAL_DECORATOR)
        super().validate_environment(echo, datastore_type)

    def init_environment(self, echo: Callable[..., None]) -> None:
        """Compare the lock with the code and give every remote step its image.

        Metaflow calls it where a run or a deployment starts, after every decorator is attached. It reads two files, and
        builds nothing.

        Raises:
            NotStartedByBazelException: nothing names the lock or the images.
            UnreadableFileException: one of the files is damaged, or of another version of mfbazel.
            StaleLockException: a step declares something else than what was locked.
            DependenciesException: a step declares what no lock can hold.
            NotPushedException: a remote step has no pushed image and no ``image=`` of its own.
            StaleImageException: the image of a remote step was made from an older lock.
        """
        _warn_of_netflixext(echo)
        lock = read_lock()
        if lock is None and not os.environ.get(IMAGES_VARIABLE):
            raise NotStartedByBazelException(
                f"--environment=bazel needs the lock of the flow {self._flow.name}. Start it with "
                f"`bazel run {target()} -- run …`, which names the lock in {LOCK_VARIABLE}."
            )
        if lock is not None:
            self._check_lock(lock)
        self._set_images()

    def _check_lock(self, lock: Lock) -> None:
        if lock.flow != self._flow.name:
            raise UnreadableFileException(
                f"{lock.path} is the lock of the flow {lock.flow}, not of {self._flow.name}: {LOCK_VARIABLE} names the "
                "wrong file."
            )
        for step in self._flow:
            bazel_requirements.check(step.name, bazel_requirements.of_step(step), lock)
        self._environments = {name: step.environment for name, step in lock.steps.items()}

    def _set_images(self) -> None:
        """Set ``image`` of every remote decorator that the user gave none."""
        wanting = {step: decos for step in self._flow if (decos := _decorators_without_image(step))}
        if not wanting:
            return
        images = read_images()
        if images.flow != self._flow.name:
            raise NotPushedException(
                f"{images.path} records the images of the flow {images.flow}, not of {self._flow.name}. "
                f"Run `{command('push')}`."
            )
        for step, decos in wanting.items():
            reference = _image_of(step, images)
            for deco in decos:
                deco.attributes["image"] = reference

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

    def add_to_package(self) -> Iterator[tuple[str, str, Any]]:
        """Yield the first-party files outside the flow's directory, under the paths by which they are imported.

        Raises:
            UnreadableFileException: the launcher's list is damaged, or names a file that is missing.
        """
        yield from super().add_to_package()
        yield from bazel_versions.packaged(_first_party_files())

    @classmethod
    def get_client_info(cls, flow_name: str, metadata: Any) -> str:  # noqa: ARG003 - Metaflow's signature
        """Return what Metaflow's client says of a task's environment."""
        return f"Bazel environment of {flow_name}: the packages of a task are those of its image"


def _first_party_files() -> dict[str, Path]:
    """Return the files that the launcher lists, by their paths in the code package; those of a directory one by one."""
    named = os.environ.get(FIRST_PARTY_VARIABLE)
    if not named:
        return {}
    try:
        listed = json.loads(Path(named).read_text(encoding="utf-8"))
        paths = {str(arcname): Path(os.environ.get(RUNFILES_VARIABLE, ""), path) for arcname, path in listed.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UnreadableFileException(
            f"{named}, named by {FIRST_PARTY_VARIABLE}, cannot be read: {error!r}."
        ) from error
    found: dict[str, Path] = {}
    for arcname, path in paths.items():
        if path.is_dir():
            found |= {f"{arcname}/{file.relative_to(path)}": file for file in path.rglob("*") if file.is_file()}
        elif path.is_file():
            found[arcname] = path
        else:
            raise UnreadableFileException(f"{named} lists {arcname}, but there is no file {path}.")
    return found


def _decorators_without_image(step: Any) -> list[Any]:
    """Return the remote decorators of ``step`` that Metaflow will use and for which the user chose no image."""
    remote = [deco for deco in step.decorators if deco.name in REMOTE_DECORATORS and bazel_versions.is_in_use(deco)]
    return [deco for deco in remote if not _has_own_image(deco)]


def _has_own_image(deco: Any) -> bool:
    """Say whether the user chose the image of ``deco``.

    What a mutator gives beside the text of a decorator is in no list of Metaflow's: there the image is the user's when
    it is not the one that Metaflow fills in.
    """
    if "image" in deco._user_defined_attributes:
        return True
    if not deco.inserted_by or not deco.attributes["image"]:
        return False
    plain = type(deco)()
    plain.external_init()
    return bool(deco.attributes["image"] != plain.attributes["image"])


def _image_of(step: Any, images: Images) -> str:
    """Return the reference of the step's image, by digest."""
    image = images.steps.get(step.name)
    if image is None or not image.reference:
        what = "does not have" if image is None else "has no pushed image of"
        raise NotPushedException(
            f"{images.path} {what} step *{step.name}* of the flow {images.flow}. Run `{command('push')}`, or give the "
            "step an image of your own with image=…."
        )
    if image.requirements_sha256 != bazel_requirements.of_step(step).sha256:
        raise StaleImageException(
            f"The image of step *{step.name}* of the flow {images.flow} was pushed before its packages were locked "
            f"anew ({images.path}). Run `{command('push')}`."
        )
    return image.reference


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
