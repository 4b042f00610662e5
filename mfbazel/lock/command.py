"""Locking: from options to a written lock directory, or to what would change in it."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from mfbazel.errors import MfbazelError
from mfbazel.lock.changes import Change, changes
from mfbazel.lock.document import Lock, build, owned, read, requirements_file
from mfbazel.lock.errors import LockError
from mfbazel.lock.flow import FlowOptions, read_flow_environments
from mfbazel.lock.imports import lock_with_imports, parse_names
from mfbazel.lock.kept import Kept
from mfbazel.lock.model import Environment, LockedEnvironment, Settings
from mfbazel.lock.origin import is_label
from mfbazel.lock.requirements_txt import parse_locked
from mfbazel.lock.resolve import Locker, Resolutions
from mfbazel.lock.resolver.indexes import configured_indexes
from mfbazel.lock.wheels.modules import Modules
from mfbazel.lock.wheels.sizes import Sizes
from mfbazel.lock.wheels.web import Web
from mfbazel.lock.writer import write_directory
from mfbazel.policy import check_index, check_packages, refuse
from mfbazel.wheel.pip_environment import pip_settings


@dataclass
class Shared:
    """What the locks of one command share: resolutions, and what is known of wheels. ``report``: called with a line
    about progress; ``stopped``: set when nothing more is to be written."""

    report: Callable[[str], None] = lambda _line: None
    resolutions: Resolutions = field(default_factory=Resolutions)
    stopped: threading.Event = field(default_factory=threading.Event)
    web: Web = field(default_factory=Web)
    sizes: Sizes = field(init=False)
    modules: Modules = field(init=False)

    def __post_init__(self) -> None:
        self.sizes = Sizes(web=self.web)
        self.modules = Modules(report=self.report, web=self.web)
        self.resolutions.sources.report = self.report

    def learn(self, old: Lock | None) -> None:
        """Enter what the ``old`` lock says of wheels."""
        if old:
            self.sizes.known.update(old.sizes())
            self.modules.known.update({key: told for key, told in old.contents().items() if not is_label(key)})


@dataclass(frozen=True)
class Task:
    """One lock to make.

    Attributes:
        directory: of the lock.
        settings: how to resolve.
        flow: the flow, or ``None`` when there are only ``environments``.
        environments: what to lock when there is no flow.
        write: whether to write, or only to say what would change.
        alone: whether a package to upgrade must be one of this lock, not of another of the same command.
        report: called with a line about progress.
    """

    directory: Path
    settings: Settings
    flow: FlowOptions | None = None
    environments: Sequence[Environment] = ()
    write: bool = True
    alone: bool = True
    report: Callable[[str], None] = lambda _line: None


@dataclass(frozen=True)
class Outcome:
    """What came of a task. ``changes``: none when the lock on disk is the right one."""

    lock: Lock
    changes: Sequence[Change]

    @property
    def stale(self) -> bool:
        """Whether the lock on disk was, or is, not the right one in a way that matters."""
        return any(change.matters for change in self.changes)


def run(task: Task, shared: Shared) -> Outcome:
    """Make the lock of ``task``.

    Raises:
        mfbazel.errors.MfbazelError: the flow cannot be read, there is no solution, the policy does not allow an index
            or a package, or the lock cannot be written.
    """
    _check_indexes(task.settings, shared.web.environment)
    old = _old_lock(task)
    shared.learn(old)
    flow, environments = read_flow_environments(task.flow) if task.flow else (None, task.environments)
    _check_only(task.settings, environments)
    previous = {item.name: _preferred(task.directory, old, item.name) for item in environments}
    locker = Locker(
        task.settings,
        kept=Kept(old, task.settings) if old else None,
        previous=previous,
        sizes=shared.sizes,
        # Only a flow's imports are compared with wheels.
        modules=shared.modules if flow else None,
        report=task.report,
        resolutions=shared.resolutions,
    )
    new = build(flow, _lock(locker, task, flow, environments), task.settings)
    check_allowed_packages(task.settings, new)
    if task.alone:
        check_upgraded(task.settings.upgrade_packages, [new])
    for line in (*_not_taken(old, environments, new), *_stayed(task.settings, environments, old, new)):
        task.report(f"warning: {line}")
    changed = changes(old, new)
    if shared.stopped.is_set():
        raise LockError("interrupted; the old lock is as it was")
    if task.write and write_directory(task.directory, new.files(), owned(new.files(), old)):
        changed = changed or [Change("repaired the files")]
    return Outcome(new, changed)


def check_allowed_packages(settings: Settings, lock: Lock) -> None:
    """Compare what is locked with what the policy allows.

    Raises:
        PolicyError: a package, or its licence, is not allowed.
    """
    rules = settings.policy.rules
    refuse(rules, f"packages of {settings.label}", check_packages(rules, lock.document))


def _check_indexes(settings: Settings, environment: Mapping[str, str]) -> None:
    """Refuse to ask an index that the policy does not allow."""
    rules = settings.policy.rules
    if not rules.concern("indexes"):
        return
    urls = [*configured_indexes(pip_settings(), environment), *(index.url for index in settings.policy.indexes)]
    refuse(rules, "indexes of your configuration", [found for url in urls for found in check_index(rules, url)])


def _preferred(directory: Path, old: Lock | None, environment: str) -> dict[str, str]:
    """Return the versions to keep where possible; of a lock that cannot be read, those of its requirements files."""
    if old:
        return old.preferred(environment)
    try:
        text = (directory / requirements_file(environment)).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    return {line.name: line.version for line in parse_locked(text)}


def _not_taken(old: Lock | None, environments: Sequence[Environment], new: Lock) -> Iterator[str]:
    """Say which versions somebody wrote into a requirements file and the ``new`` lock does not have, and why."""
    for environment in environments if old else ():
        assert old is not None
        chosen = new.versions(environment.name)
        for name, version in old.edited(environment.name).items():
            if name in chosen and version != chosen[name]:
                file = requirements_file(environment.name)
                reason = _against(name, version, environment)
                said = f"{environment.name}: {name} {version}, as {file} says, is not taken"
                yield f"{said}, but {chosen[name]}: {reason}"


def _stayed(settings: Settings, environments: Sequence[Environment], old: Lock | None, new: Lock) -> Iterator[str]:
    """Say of each package that was to be upgraded and is where it was, what holds it."""
    for name in settings.upgrade_packages:
        before, after = (
            {item.name: lock.versions(item.name).get(name) for item in environments} if lock else {}
            for lock in (old, new)
        )
        found = sorted({version for version in after.values() if version})
        if before == after and found:
            policy = [item for item in settings.policy.constraints if item.name == name]
            declared = [item for environment in environments for item in environment.wanted if item.name == name]
            reasons = dict.fromkeys(f"{item.where} says {item.text}" for item in (*policy, *declared))
            why = "; ".join(reasons) or "nothing newer fits what the others need, or --step left it out"
            yield f"--upgrade-package {name}: it stays at {', '.join(found)}: {why}"


def _against(name: str, version: str, environment: Environment) -> str:
    for wanted in (*environment.wanted, *environment.kept_runtime):
        if wanted.name == name and not Requirement(wanted.text).specifier.contains(version, prereleases=True):
            return f"{wanted.where} requires {wanted.text}"
    return "no index has a wheel of it that fits, or another package does not allow it"


def check_upgraded(names: Sequence[str], locks: Sequence[Lock]) -> None:
    """Refuse to upgrade what none of ``locks`` has.

    Raises:
        LockError: one of the normalized ``names`` is not locked.
    """
    locked = {name for lock in locks for environment in lock.environments for name in lock.versions(environment)}
    for name in names:
        if name not in locked:
            close = difflib.get_close_matches(name, sorted(locked), n=3)
            hint = f"; did you mean {' or '.join(close)}?" if close else ""
            raise LockError(f"--upgrade-package {name}: no step has this package{hint}")


def _lock(
    locker: Locker, task: Task, flow: Mapping[str, Any] | None, environments: Sequence[Environment]
) -> list[LockedEnvironment]:
    if flow is None or task.flow is None or task.flow.infer != "add":
        return locker.lock(environments)
    return lock_with_imports(locker, flow, environments, parse_names(task.flow.imports))


def _check_only(settings: Settings, environments: Sequence[Environment]) -> None:
    names = [environment.name for environment in environments]
    for name in settings.only:
        if name not in names:
            raise LockError(f"--step {name}: there is no such step; there are {', '.join(names)}")


def _old_lock(task: Task) -> Lock | None:
    """Read the lock that is replaced; one that cannot be read is no obstacle, but is said aloud."""
    try:
        return read(task.directory, task.settings.command)
    except MfbazelError as error:
        task.report(f"warning: the old lock is ignored: {error}")
        return None
