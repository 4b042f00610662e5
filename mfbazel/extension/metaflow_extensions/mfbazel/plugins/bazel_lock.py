"""The two files that the environment ``bazel`` reads: the lock of the flow, and the record of its pushed images.

Their format is that of ``docs/design/interfaces.md``, schema 1. Only the standard library and Metaflow's exceptions are
used, so that the module also loads in a container.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .bazel_errors import NotPushedException, NotStartedByBazelException, UnreadableFileException

SCHEMA = 1
"""Version of both files' format that this extension reads."""

LOCK_VARIABLE = "MFBAZEL_FLOW_LOCK"
"""Environment variable: path of ``flow.json``."""
LABEL_VARIABLE = "MFBAZEL_FLOW_LABEL"
"""Environment variable: Bazel label of the flow's target, such as ``//examples/churn:churn_flow``."""
IMAGES_VARIABLE = "MFBAZEL_IMAGES"
"""Environment variable: what to read instead of the ``images.json`` that the last push wrote: the path of another one,
its text (which begins with ``{``), or the artifact ``oci://…`` that a push published."""
WORKSPACE_VARIABLE = "BUILD_WORKSPACE_DIRECTORY"
"""Environment variable, set by ``bazel run``: root of the workspace."""


@dataclass(frozen=True)
class LockedStep:
    """What ``flow.json`` says of one step."""

    name: str
    environment: str
    """Name of the environment that was resolved for the step."""
    disabled: bool
    python: str | None
    declared: Mapping[str, str]
    """Version specifier by the package's name in its decorator; ``""`` where any version would do. What the project
    declares is not among them."""
    requirements_sha256: str
    lock: str | None = None
    """Hash of the environment's packages, the same as in ``images.json``; None where it is not there."""


@dataclass(frozen=True)
class Lock:
    """What ``flow.json`` says of a flow."""

    path: Path
    flow: str
    """Name of the flow's class."""
    steps: Mapping[str, LockedStep]
    environments: Mapping[str, Any] = field(default_factory=dict)
    """What was resolved, by name."""

    def packages_of(self, step: str, includes: Sequence[str] = ()) -> str | None:
        """Return the hash of the packages that the image of ``step`` would be made from now.

        Args:
            step: its name.
            includes: steps whose images it is derived from.

        Returns:
            the hash as in ``images.json``; None where it cannot be known.
        """
        environments = [self.steps[name].environment for name in (step, *includes) if name in self.steps]
        return _hash(environments, self.environments)


@dataclass(frozen=True)
class StepImage:
    """What ``images.json`` says of one step."""

    reference: str | None
    """``repository@sha256:…``; None where the image was built and not pushed."""
    requirements_sha256: str
    digest: str | None = None
    lock: str | None = None
    """Hash of the packages of the image; None where it is not made from the lock."""
    includes: Sequence[str] = ()
    """Steps whose images it is derived from: the hash covers their packages, too."""
    layers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Digests by platform, from the bottom to the top."""
    signed_by: str | None = None
    """Name of the signer that signed it when it was pushed; None for nobody."""
    attached: Sequence[str] = ()
    """Kinds of the documents that the push attached to it."""


@dataclass(frozen=True)
class Images:
    """What ``images.json`` says of a flow."""

    path: str
    """Where it was read, for messages."""
    flow: str
    steps: Mapping[str, StepImage]
    policy: Mapping[str, Any] = field(default_factory=dict)
    """What the policy of the workspace that built them says of registries and signing; empty where it says nothing."""


def target(environ: Mapping[str, str] | None = None) -> str:
    """Return the label of the flow's target, or a placeholder that reads like one."""
    return (os.environ if environ is None else environ).get(LABEL_VARIABLE) or "//<package>:<flow>"


def command(verb: str) -> str:
    """Return the command that makes what is missing; ``verb`` is ``lock`` or ``push``."""
    return f"bazel run {target()}.{verb}"


def read_lock() -> Lock | None:
    """Return the lock that the launcher named in ``MFBAZEL_FLOW_LOCK``, None where it named none.

    Raises:
        UnreadableFileException: the file is missing, damaged, or of another schema.
    """
    named = os.environ.get(LOCK_VARIABLE)
    if not named:
        return None
    path = Path(named)
    content = _parsed(_read(path, "lock"), str(path), "lock")
    try:
        flow = content["flow"]
        environments = content.get("environments", {})
        steps = {step["name"]: _locked_step(step, environments) for step in flow["steps"]}
        return Lock(path=path, flow=flow["name"], steps=steps, environments=environments)
    except (KeyError, TypeError, AttributeError) as error:
        raise UnreadableFileException(
            f"{path} is not the lock of a flow ({error!r}). Run `{command('lock')}`."
        ) from error


def read_images() -> Images:
    """Return the record of the last push, or what ``MFBAZEL_IMAGES`` names instead.

    Where nothing told the flow's label yet, it is known from then on, as if the launcher had told it.

    Raises:
        NotPushedException: nothing was pushed from this workspace.
        NotStartedByBazelException: neither the file nor the flow's label is known.
        UnreadableFileException: the file is damaged, or of another schema, or a registry does not give it.
    """
    path, text = _images_text()
    content = _parsed(text, path, "push")
    try:
        steps = {name: _step_image(step) for name, step in content["steps"].items()}
        os.environ.setdefault(LABEL_VARIABLE, content.get("label") or "")
        return Images(path=path, flow=content["flow"], steps=steps, policy=content.get("policy") or {})
    except (KeyError, TypeError, AttributeError) as error:
        raise UnreadableFileException(f"{path} is no record of images ({error!r}). Run `{command('push')}`.") from error


def _locked_step(step: Mapping[str, Any], environments: Mapping[str, Any]) -> LockedStep:
    environment = step.get("environment") or step["name"]
    return LockedStep(
        name=step["name"],
        environment=environment,
        disabled=bool(step.get("disabled")),
        python=step.get("python"),
        declared={
            package.get("conda") or package["name"]: package.get("specifier") or ""
            for package in step.get("declared", ())
            if package.get("decorator") != "project"
        },
        requirements_sha256=step["requirements_sha256"],
        lock=_hash([environment], environments),
    )


def _hash(names: Sequence[str], environments: Mapping[str, Any]) -> str | None:
    """Return the hash of the packages of environments, None where they are not said or ``mfbazel`` is missing."""
    try:
        from mfbazel.lock_hash import environments_hash

        return str(environments_hash(environments, names))
    except (ImportError, KeyError):
        return None


def _step_image(step: Mapping[str, Any]) -> StepImage:
    return StepImage(
        reference=step.get("image"),
        requirements_sha256=step["requirements_sha256"],
        digest=step.get("digest"),
        lock=step.get("lock"),
        includes=tuple(step.get("includes") or ()),
        layers=step.get("layers") or {},
        signed_by=step.get("signed_by"),
        attached=tuple(step.get("attached") or ()),
    )


def _images_text() -> tuple[str, bytes]:
    """Return where the images are recorded, for messages, and the text of that."""
    named = os.environ.get(IMAGES_VARIABLE, "").strip()
    if named.startswith("{"):
        return f"the text in {IMAGES_VARIABLE}", named.encode()
    if named.startswith("oci://"):
        return named, _artifact_text(named)
    path = _images_path()
    if not path.is_file():
        raise NotPushedException(
            f"The flow {target()} has not been pushed: there is no {path}. Run `{command('push')}`, or give its steps "
            "images of your own with image=…."
        )
    return str(path), _read(path, "push")


def _artifact_text(reference: str) -> bytes:
    """Return the text that a registry has."""
    try:
        from mfbazel.errors import MfbazelError
        from mfbazel.registry import fetch_images
    except ImportError as error:
        raise NotStartedByBazelException(f"{IMAGES_VARIABLE} cannot be read without mfbazel ({error}).") from error
    try:
        return bytes(fetch_images(reference))
    except MfbazelError as error:
        raise UnreadableFileException(f"{IMAGES_VARIABLE}: {error}") from error


def _images_path() -> Path:
    """Return the file that records the last push; it need not exist."""
    if named := os.environ.get(IMAGES_VARIABLE):
        return Path(named)
    label, workspace = os.environ.get(LABEL_VARIABLE), os.environ.get(WORKSPACE_VARIABLE)
    if not label or not workspace:
        raise NotStartedByBazelException(
            "Nothing says where the images of the flow are recorded. Start the flow with "
            f"`bazel run {target()} -- run …`, or name the images.json of a push in {IMAGES_VARIABLE}."
        )
    from mfbazel.state import images_path

    return Path(images_path(Path(workspace), label))


def _read(path: Path, verb: str) -> bytes:
    """Return what is in ``path``; ``verb`` makes the file anew."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableFileException(f"{path} cannot be read ({error}). Run `{command(verb)}`.") from error


def _parsed(text: bytes, path: str, verb: str) -> Mapping[str, Any]:
    """Return the JSON object in ``text``, of the right schema; ``path`` is where it was read."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise UnreadableFileException(f"{path} cannot be read ({error}). Run `{command(verb)}`.") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if not isinstance(content, dict) or schema != SCHEMA:
        raise UnreadableFileException(
            f"{path} has schema {schema!r}, this version of mfbazel reads {SCHEMA}. Run `{command(verb)}` with it."
        )
    return content
