"""Which flows have other images because files changed, and which file is the reason.

A target is affected when something is that it is made of. Where one cannot know, it counts as affected: a push that
changes nothing asks the registry once per image, and one that is left out is missed by everyone.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mfbazel.push.all_changes import Change
from mfbazel.push.all_graph import FLOW_RULE, FLOW_SUFFIX, MISSING_RULE, Graph, flow_of, pushed_by
from mfbazel.push.all_loads import MODULE_FILES, Loads

_BUILD_FILES = ("BUILD.bazel", "BUILD")
# Files whose targets nobody depends on, and which decide about everything.
_SETTINGS = frozenset(
    [
        *MODULE_FILES,
        "MODULE.bazel.lock",
        "REPO.bazel",
        ".bazelversion",
        ".bazeliskrc",
        ".bazelignore",
        "platform_mappings",
        "mfbazel.toml",
    ]
)
_WRAPPERS = ("bazelw", "tools/bazel")
# It compares a flow with its lock and puts nothing into an image: a flow's code reaches its images in no other way.
_CHECKS = ("flow_lock_check",)
# Every action may run with them, and no target names them.
_FOR_ALL = ("toolchain", "platform")
_LOCK = re.compile(r"(?P<package>.+)\.lock/flow\.json")
_LOCKS = "mfbazel_locks"  # how the name of the repository ends that has the targets of all locks
_OWN_LOCK = "tools/python/python"  # mfbazel's own packages are a lock of another name as well
_OWN_PACKAGE = "_mfbazel"


@dataclass(frozen=True)
class Affected:
    """What changed for flows.

    Attributes:
        reasons: what made each affected flow so, by the flow's label, in words.
    """

    reasons: Mapping[str, str]


def find_affected(workspace: Path, graph: Graph, changes: Sequence[Change]) -> Affected:
    """Return the flows of ``graph`` that ``changes`` affect.

    Args:
        workspace: the root directory, whose files are read.
        graph: its targets.
        changes: what changed; paths from ``workspace``.
    """
    flows = [flow_of(node.name) for node in graph.nodes.values() if node.kind in (FLOW_RULE, MISSING_RULE)]
    finder = _Finder(workspace, graph, Loads(workspace, graph))
    seen = [*((change, change) for change in changes), *finder.behind_links(changes)]
    for alias, change in seen:
        if why := finder.concerns_all(alias):
            return Affected(dict.fromkeys(flows, f"{change}, {why}"))
    origins = finder.spread({name: change for alias, change in seen for name in finder.roots(alias)})
    for name, change in origins.items():
        if name in graph.nodes and graph.nodes[name].kind in _FOR_ALL:
            return Affected(dict.fromkeys(flows, f"{change}, which {name} is made of"))
    # What is attached to images is no part of them.
    reasons = {flow: origins.get(f"{flow}{FLOW_SUFFIX}") or origins.get(pushed_by(flow)) for flow in flows}
    return Affected({flow: str(change) for flow, change in reasons.items() if change})


@dataclass
class _Finder:
    """Maps changed files to targets, and spreads from there to what is made of these."""

    workspace: Path
    graph: Graph
    loads: Loads
    _named: set[str] = field(init=False)
    _local: set[str] = field(init=False)
    _options: set[str] = field(init=False)
    _dependents: dict[str, list[str]] = field(init=False)
    _locks: dict[str, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        self._named, self._local = self.loads.named_by_module(), self.loads.local_repositories()
        self._options = self.loads.named_by_options()
        self._dependents = self.graph.dependents(_CHECKS)
        self._locks = self._by_lock()
        for package, targets in self._locks.items():
            for wheel in _wheels_of(self.workspace / f"{package}.lock" / "flow.json"):
                self._dependents.setdefault(wheel, []).extend(targets)

    def concerns_all(self, change: Change) -> str | None:
        """Return why every flow counts as affected; ``None`` when it does not."""
        path = change.path
        name = path.rpartition("/")[2]
        if path in _SETTINGS or path in _WRAPPERS or name.endswith(".bazelrc") or name.endswith(".MODULE.bazel"):
            return "which decides about everything"
        if path in self._named:
            return "which MODULE.bazel depends on"
        if any(path.startswith(f"{directory}/") for directory in self._local):
            return "in another repository of MODULE.bazel"
        if any(path == place or path.startswith(f"{place}/") for place in self._options):
            return "which .bazelrc names"
        if (self.workspace / path).is_dir() and not (self.workspace / path).is_symlink():
            return "a submodule"
        if path.endswith(".bzl") and not path.startswith("../") and not self.loads.packages_that_load(path):
            return "which other repositories may load"
        return None

    def roots(self, change: Change) -> Iterator[str]:
        """Return the labels that a change is about."""
        path = change.path
        directory, _, name = path.rpartition("/")
        label = self.graph.label_of(path)
        if (self.workspace / path).is_symlink():  # perhaps to a directory of packages
            for package in self.graph.packages:
                if package == path or package.startswith(f"{path}/"):
                    yield from self._package(package)
        if match := _LOCK.fullmatch(path):
            yield from self._targets_of_lock(match["package"])
        if name in _BUILD_FILES:
            yield from self._package(directory)
            if change.kind != "changed":  # the directories around see other files now
                yield from self._package(self.graph.package_of(directory))
        elif name.endswith(".bzl"):
            for package in self.loads.packages_that_load(path):
                yield from self._package(package)
        if label is None:
            return
        yield from self._with_directories(label)
        if change.kind == "deleted":  # whatever matched it by a pattern
            yield from self._package(self.graph.package_of(path))

    def behind_links(self, changes: Sequence[Change]) -> list[tuple[Change, Change]]:
        """Return changes by the names that links in the workspace give to files, each with the change as it was."""
        root = Path(os.path.realpath(self.workspace))
        files = {node.file for node in self.graph.nodes.values() if node.file}
        links: dict[str, str] = {}
        for place in {*(file.parent for file in files), *(file for file in files if file.is_symlink())}:
            path = os.path.relpath(place, self.workspace if place.is_relative_to(self.workspace) else root)
            real = os.path.relpath(os.path.realpath(place), root)
            if real != path:
                links[path] = real
        return [
            (replace(change, path=path + change.path.removeprefix(real)), change)
            for path, real in sorted(links.items())
            for change in changes
            if change.path == real or change.path.startswith(f"{real}/")
        ]

    def spread(self, roots: Mapping[str, Change]) -> dict[str, Change]:
        """Return all labels that something in ``roots`` is an input of, each with the first change that reaches it."""
        origins = dict(roots)
        waiting = list(roots)
        while waiting:
            name = waiting.pop(0)
            for dependent in self._dependents.get(name, ()):
                if dependent not in origins:
                    origins[dependent] = origins[name]
                    waiting.append(dependent)
        return origins

    def _package(self, package: str | None) -> Iterator[str]:
        """Return the targets of a package, and what of it others still name."""
        if package is None:
            return
        yield from self.graph.packages.get(package, ())
        if package not in self.graph.packages:
            yield from (name for name in self._dependents if name.startswith(f"//{package}:"))

    def _with_directories(self, label: str) -> Iterator[str]:
        """Return a file's label, and those of the directories around it: a directory may be an input."""
        package, colon, name = label.partition(":")
        while name:
            found = f"{package}{colon}{name}"
            if found in self.graph.nodes or found in self._dependents:
                yield found
            name = name.rpartition("/")[0]

    def _targets_of_lock(self, package: str) -> Iterator[str]:
        """Return the labels in the repository of locks that are of this lock."""
        for name in (package, _OWN_PACKAGE) if package == _OWN_LOCK else (package,):
            yield from self._locks.get(name, ())

    def _by_lock(self) -> dict[str, list[str]]:
        """Return the labels in the repository of locks that are inputs of something, by the package of the lock."""
        found: dict[str, list[str]] = {}
        for label in self._dependents:
            repository, slashes, rest = label.partition("//")
            if slashes and repository.endswith(_LOCKS):
                found.setdefault(rest.partition(":")[0], []).append(label)
        return found


def _wheels_of(lock: Path) -> Iterator[str]:
    """Return the labels of the wheels that are of the workspace itself; none of a lock that cannot be read."""
    try:
        wheels = json.loads(lock.read_bytes())["wheels"].values()
    except (OSError, ValueError, LookupError, AttributeError):
        return
    for wheel in wheels:
        label = wheel.get("source", {}).get("label")
        if isinstance(label, str):
            yield label
