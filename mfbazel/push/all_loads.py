"""Which files decide about targets without being targets' inputs: what BUILD files load, and what MODULE.bazel names.

Bazel's query tells the first only by loading everything that everything depends on, and the second not at all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mfbazel.push.all_graph import Graph

MODULE_FILES = ("MODULE.bazel", "WORKSPACE.bzlmod", "WORKSPACE.bazel", "WORKSPACE")
"""The files that say which other repositories there are."""

_LOAD = re.compile(r"^\s*load\(\s*[\"']([^\"']+)[\"']", re.MULTILINE)
_LABEL = re.compile(r"[\"']((?:@@?[\w.+~-]*)?//[^\"'\s]*|:[^\"'\s]+)[\"']")
_NAME = re.compile(r"^module\(\s*(?:[^)]*?,\s*)?name\s*=\s*[\"']([^\"']+)[\"']", re.MULTILINE)
_DIRECTORY = re.compile(r"\bpath\s*=\s*[\"']([^\"']+)[\"']")


@dataclass
class Loads:
    """What files of a workspace load and name; the files are read when they are asked for.

    Attributes:
        workspace: its root.
        graph: its packages.
    """

    workspace: Path
    graph: Graph
    _loaded: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _texts: dict[str, str] = field(default_factory=dict)

    def packages_that_load(self, path: str) -> list[str]:
        """Return the packages whose BUILD file loads ``path``, directly or not."""
        return [
            package
            for package in self.graph.packages
            if any(path in self._closure([build]) for build in self._build_files(package))
        ]

    def named_by_module(self) -> set[str]:
        """Return the files that MODULE.bazel names, such as those of extensions, and what they load."""
        named: set[str] = set()
        waiting = [name for name in MODULE_FILES if (self.workspace / name).is_file()]
        while waiting:
            text = self._read(waiting.pop())
            for path in filter(None, (self._path(label, "") for label in _LABEL.findall(text))):
                if path not in named:
                    named.add(path)
                    waiting += [path] if path.endswith("MODULE.bazel") else []
        return self._closure(path for path in named if path.endswith(".bzl")) | named

    def local_repositories(self) -> set[str]:
        """Return the directories that MODULE.bazel takes other repositories from, from the workspace's root."""
        found = {
            os.path.relpath(self.workspace / place, self.workspace)
            for name in MODULE_FILES
            for place in _DIRECTORY.findall(self._read(name))
            if (self.workspace / place).is_dir()
        }
        return found - {"."}

    def _build_files(self, package: str) -> Iterator[str]:
        for name in ("BUILD.bazel", "BUILD"):
            path = f"{package}/{name}" if package else name
            if f"//{package}:{name}" in self.graph.nodes:
                yield path

    def _closure(self, paths: Iterable[str]) -> set[str]:
        """Return ``paths`` and what they load, directly or not."""
        found: set[str] = set()
        waiting = list(paths)
        while waiting:
            path = waiting.pop()
            if path not in found:
                found.add(path)
                waiting += self._loads(path)
        return found

    def _loads(self, path: str) -> tuple[str, ...]:
        if path not in self._loaded:
            package = self.graph.package_of(path) or ""
            paths = (self._path(label, package) for label in _LOAD.findall(self._read(path)))
            self._loaded[path] = tuple(found for found in paths if found)
        return self._loaded[path]

    def _path(self, label: str, package: str) -> str | None:
        """Return the path of the file ``label``, which ``package`` names; ``None`` for another repository's."""
        repository, slashes, rest = label.rpartition("//") if "//" in label else ("", "", label)
        if repository not in ("", "@", "@@", f"@{self._module_name()}"):
            return None
        if not slashes:
            return f"{package}/{rest.removeprefix(':')}".lstrip("/")
        directory, colon, name = rest.partition(":")
        name = name if colon else directory.rpartition("/")[2]
        return f"{directory}/{name}".lstrip("/")

    def _module_name(self) -> str:
        match = _NAME.search(self._read("MODULE.bazel"))
        return match[1] if match else ""

    def _read(self, path: str) -> str:
        if path not in self._texts:
            try:
                self._texts[path] = (self.workspace / path).read_text(encoding="utf-8", errors="replace")
            except OSError:
                self._texts[path] = ""
        return self._texts[path]
