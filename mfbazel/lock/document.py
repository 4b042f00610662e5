"""``flow.json``: writing it, reading it, and what it says about wheels (docs/design/interfaces.md is the "
"specification)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from packaging.version import Version

from mfbazel.lock.errors import LockError
from mfbazel.lock.model import Contents, LockedEnvironment, LockedWheel, Settings
from mfbazel.lock.origin import Source, is_label
from mfbazel.lock.requirements_txt import parse_locked, render
from mfbazel.plan import BUDGET, Origin, PlannedWheel, plan_layers

SCHEMA = 1
FILE = "flow.json"


@dataclass(frozen=True)
class Lock:
    """A lock directory in memory: the parsed ``flow.json`` and the requirements files by name."""

    document: Mapping[str, Any]
    texts: Mapping[str, str]

    def files(self) -> dict[str, str]:
        """Return every file of the directory by name."""
        body = json.dumps(self.document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        return {FILE: body, **self.texts}

    @property
    def environments(self) -> Mapping[str, Mapping[str, Any]]:
        """The environments by name, as in the document."""
        environments: Mapping[str, Mapping[str, Any]] = self.document["environments"]
        return environments

    @property
    def platforms(self) -> list[str]:
        """The platforms that are locked, sorted."""
        return sorted(self.document["layers"])

    @property
    def budget(self) -> int:
        """How many layers of packages each image may have."""
        return int(self.document.get("budget", BUDGET))

    def versions(self, environment: str) -> dict[str, str]:
        """Return the locked versions of ``environment`` by name; empty when it is not locked."""
        return dict(self._distributions(environment))

    def _distributions(self, environment: str) -> Iterator[tuple[str, str]]:
        """Yield name and version of the wheels of ``environment``."""
        for shas in self.environments.get(environment, {}).get("wheels", {}).values():
            for sha in shas:
                wheel = self.document["wheels"][sha]
                yield wheel["name"], wheel["version"]

    def edited(self, environment: str) -> dict[str, str]:
        """Return by name the versions that somebody, a bot say, wrote into the requirements file of ``environment``."""
        text = self.texts.get(self.environments.get(environment, {}).get("file", ""), "")
        locked = set(self._distributions(environment))
        return {line.name: line.version for line in parse_locked(text) if (line.name, line.version) not in locked}

    def preferred(self, environment: str) -> dict[str, str]:
        """Return by name the versions to be kept for ``environment`` where possible: edited ones, else the locked ones.

        Of what is new there, the newest that another step has, so that a step that comes or is renamed moves nothing.
        """
        others: dict[str, str] = {}
        for name in sorted(self.environments):
            if not name.startswith("_"):
                for distribution, version in self._distributions(name):
                    others[distribution] = max(others.get(distribution, version), version, key=Version)
        return {**others, **self.versions(environment), **self.edited(environment)}

    def wheel(self, sha256: str) -> LockedWheel:
        """Return the wheel ``sha256`` of the lock."""
        entry = self.document["wheels"][sha256]
        source = Source.from_json(entry["source"]) if "source" in entry else None
        return LockedWheel(
            entry["name"], entry["version"], entry["file"], sha256, entry["size"], _contents(entry), source
        )

    def sizes(self) -> dict[str, int]:
        """Return the sizes of all wheels in bytes by sha256."""
        return {sha: wheel["size"] for sha, wheel in self.document["wheels"].items() if wheel["size"] > 0}

    def contents(self) -> dict[str, Contents]:
        """Return what the wheels tell of themselves, by sha256; a lock of an older version lacks some."""
        found = {sha: _contents(wheel) for sha, wheel in self.document["wheels"].items()}
        return {sha: contents for sha, contents in found.items() if contents}

    def modules(self) -> dict[str, tuple[str, ...]]:
        """Return the modules of the wheels whose modules are known, by sha256; a lock of an older version has none."""
        wheels = self.document["wheels"]
        return {sha: tuple(wheel["modules"]) for sha, wheel in wheels.items() if "modules" in wheel}


def build(flow: Mapping[str, Any] | None, locked: Sequence[LockedEnvironment], settings: Settings) -> Lock:
    """Make the lock of ``locked`` (and ``flow``, the flow part of the contract, when there is one).

    Raises:
        mfbazel.plan.PlanError: the layers do not fit.
    """
    wheels = {
        wheel.sha256: _wheel(wheel)
        for environment in locked
        for found in environment.wheels.values()
        for wheel in found
    }
    environments = {item.environment.name: _environment(item, settings) for item in locked}
    document = {
        "schema": SCHEMA,
        "flow": flow,
        "resolver": settings.resolver,
        "glibc": settings.glibc,
        "environments": environments,
        "wheels": wheels,
        "layers": {str(item): _layers(environments, wheels, str(item), settings.budget) for item in settings.platforms},
    }
    if settings.budget != BUDGET:
        document["budget"] = settings.budget
    texts = {environments[item.environment.name]["file"]: render(item, settings.command) for item in locked}
    return Lock(document, texts)


def _wheel(wheel: LockedWheel) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": wheel.name, "version": wheel.version, "file": wheel.file, "size": wheel.size}
    if wheel.contents:
        entry |= {"modules": list(wheel.contents.modules), "license": wheel.contents.license}
    return {**entry, "source": wheel.source.to_json()} if wheel.source else entry


def _contents(entry: Mapping[str, Any]) -> Contents | None:
    told = "modules" in entry and "license" in entry
    return Contents(tuple(entry["modules"]), entry["license"]) if told else None


def _environment(locked: LockedEnvironment, settings: Settings) -> dict[str, Any]:
    environment = locked.environment
    names = {wheel.name for wheels in locked.wheels.values() for wheel in wheels}
    policy = settings.policy.concerning(environment, names)
    entry: dict[str, Any] = {
        "python": environment.python,
        "requirements": environment.requirements,
        "runtime": environment.runtime_requirements,
        "file": requirements_file(environment.name),
        "wheels": {platform: [wheel.sha256 for wheel in wheels] for platform, wheels in locked.wheels.items()},
    }
    if policy:
        entry["policy"] = policy
    return entry if environment.dependencies else {**entry, "dependencies": False}


def _layers(
    environments: Mapping[str, Mapping[str, Any]], wheels: Mapping[str, Mapping[str, Any]], platform: str, budget: int
) -> list[dict[str, Any]]:
    layers = plan_layers(
        {name: environment["wheels"].get(platform, []) for name, environment in environments.items()},
        {key: planned(key, wheel) for key, wheel in wheels.items()},
        pythons={name: environment["python"] for name, environment in environments.items()},
        budget=budget,
    )
    return [
        {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(layer).items()}
        for layer in layers
    ]


def planned(key: str, wheel: Mapping[str, Any]) -> PlannedWheel:
    """Return what the planner has to know of ``wheel``, which stands in a lock under ``key``."""
    origin = Origin.TARGET if is_label(key) else Origin.SOURCE if "source" in wheel else Origin.INDEX
    return PlannedWheel(wheel["name"], wheel["version"], max(0, wheel.get("size", 0)), origin)


def requirements_file(environment: str) -> str:
    """Return the name of the requirements file of ``environment`` in a lock directory."""
    return f"{environment}.txt"


def read(directory: Path, command: str) -> Lock | None:
    """Read the lock in ``directory``; ``None`` when there is none.

    Raises:
        LockError: it cannot be read, or is of another schema; ``command`` makes it anew.
    """
    path = directory / FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise LockError(f"{path}: cannot read the lock: {error}. Delete it and run `{command}`.") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        schema = document.get("schema") if isinstance(document, dict) else None
        raise LockError(f"{path}: schema {schema} is not {SCHEMA}, the one this version reads. Run `{command}`.")
    try:
        names = [_plain(environment["file"]) for environment in document["environments"].values()]
        return Lock(document, {name: _text(directory / name) for name in names if (directory / name).is_file()})
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise LockError(f"{path}: not a lock: {error!r}. Delete it and run `{command}`.") from error


def _plain(name: str) -> str:
    """Return ``name`` after checking that it names a file of the directory itself."""
    if Path(name).name != name:
        raise ValueError(f"the file {name!r} is not in the lock directory")
    return name


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def owned(names: Iterable[str], old: Lock | None) -> set[str]:
    """Return the file names that belong to a lock of ``names`` or to the ``old`` one: what a writer may replace."""
    return {FILE, *names, *(old.files() if old else ())}
