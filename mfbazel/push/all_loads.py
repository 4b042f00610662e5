"""Which files decide about targets without being their inputs: what BUILD files load, MODULE.bazel and .bazelrc name.

Bazel's query tells the first only by loading everything that everything depends on, and the others not at all.
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

_MODULE_SUFFIX = "MODULE.bazel"  # also of what MODULE.bazel includes

_LOAD = re.compile(r"^\s*load\(\s*[\"']([^\"']+)[\"']", re.MULTILINE)
_LABEL = re.compile(r"[\"']((?:@@?[\w.+~-]*)?//[^\"'\s]*|:[^\"'\s]+)[\"']")
_NAME = re.compile(r"^module\(\s*(?:[^)]*?,\s*)?name\s*=\s*[\"']([^\"']+)[\"']", re.MULTILINE)
_DIRECTORY = re.compile(r"\bpath\s*=\s*[\"']([^\"']+)[\"']")
_OPTIONS_FILE = ".bazelrc"
_IMPORT = re.compile(r"^\s*(?:try-)?import(?:-\S+\s+\S+)?\s+[\"']?%workspace%/([^\"'\s]+)", re.MULTILINE)
_NAMED_BY_OPTION = re.compile(  # by any option from the root, by some from where Bazel is called
    r"%workspace%/([^\s\"',]+)"
    r"|--(?:override_module|override_repository)[=\s]+[\"']?[^\s=]+=(?!/|%)([^\s\"']+)"
    r"|--(?:vendor_dir|platform_mappings)[=\s]+[\"']?(?!/|%)([^\s\"']+)"
)


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
        """Return the files that MODULE.bazel names, what they load, and what module extensions name in turn."""
        named: set[str] = set()
        waiting = [name for name in MODULE_FILES if (self.workspace / name).is_file()]
        while waiting:
            path = waiting.pop()
            # Labels in a file of MODULE.bazel's begin at the root, whatever directory the file is in.
            package = "" if path in MODULE_FILES or path.endswith(_MODULE_SUFFIX) else self.graph.package_of(path) or ""
            for found in filter(None, (self._path(label, package) for label in _LABEL.findall(self._read(path)))):
                if found not in named:
                    named.add(found)
                    waiting += [found] if found.endswith((_MODULE_SUFFIX, ".bzl")) else []
        return named

    def local_repositories(self) -> set[str]:
        """Return the directories that MODULE.bazel takes other repositories from, from the workspace's root."""
        found = {
            os.path.relpath(self.workspace / place, self.workspace)
            for name in (*MODULE_FILES, *self.named_by_module())
            if name in MODULE_FILES or name.endswith((_MODULE_SUFFIX, ".bzl"))
            for place in _DIRECTORY.findall(self._read(name))
            if (self.workspace / place).is_dir()
        }
        return found - {"."}

    def named_by_options(self) -> set[str]:
        """Return the files and directories of the workspace that `.bazelrc`, and what it imports, name."""
        named: set[str] = set()
        read: set[str] = set()
        waiting = [_OPTIONS_FILE]
        while waiting:
            path = waiting.pop()
            if path not in read:
                read.add(path)
                text = self._read(path)
                waiting += [os.path.normpath(found) for found in _IMPORT.findall(text)]
                named |= {os.path.normpath("".join(found)) for found in _NAMED_BY_OPTION.findall(text)}
        return named - {"."}

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
