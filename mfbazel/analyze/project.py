"""The dependencies that a project gives to every step: ``[project]`` of its ``pyproject.toml``, pinned by ``uv.lock``.

Metaflow's environment ``uv`` installs a project's lock without its groups (``uv sync --frozen --no-dev``) into every
step. Here the same dependencies become requirements of every step, and the flow's own lock resolves them: the direct
ones at the versions of ``uv.lock``. The forms are those of PEP 621 and PEP 508, and of version 1 of uv's lock.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from mfbazel.analyze.errors import AnalyzeError
from mfbazel.analyze.model import Declared
from mfbazel.analyze.requirements import split

DECORATOR = "project"
"""What stands for the decorator in :class:`mfbazel.analyze.model.Declared`."""


@dataclass(frozen=True)
class Project:
    """A project's dependencies.

    Attributes:
        shown: the file's name in errors.
        declared: the dependencies, pinned where there is a lock.
        python: ``requires-python``, ``None`` when any does.
        line: that of ``requires-python``.
    """

    shown: str
    declared: tuple[Declared, ...]
    python: SpecifierSet | None
    line: int

    def check_python(self, python: str, step: str) -> None:
        """Check that the project takes the step's Python.

        Args:
            python: ``X.Y`` or ``X.Y.Z``.
            step: the step's name.

        Raises:
            AnalyzeError: it does not.
        """
        if self.python is None or _takes(self.python, python):
            return
        raise AnalyzeError(
            f"{self.shown}:{self.line}: step '{step}' has Python {python}, but the project has `requires-python = "
            f'"{self.python}"`: change one of them'
        )


def read_project(path: Path) -> Project:
    """Read ``pyproject.toml`` and the ``uv.lock`` beside it, if there is one.

    Raises:
        AnalyzeError: a file cannot be read, is no TOML, has its dependencies elsewhere than in ``[project]``, or takes
            them from elsewhere than an index or a URL; or the lock lacks a dependency.
    """
    text = _read(path)
    content = _toml(text, path)
    project = content.get("project")
    if not isinstance(project, dict):
        raise _no_project(content, path)
    if "dependencies" in (project.get("dynamic") or ()):
        raise AnalyzeError(
            f"{path.name}:{_line(text, 'dynamic')}: the dependencies are dynamic: what builds the project makes "
            "them. Write them into `dependencies` of [project]"
        )
    _check_groups(content, text, path)
    lines = _Lines(text)
    requirements = [
        (_requirement(item, path, lines), lines.of(item)) for item in _strings(project, "dependencies", path)
    ]
    _check_sources(content, [item for item, _ in requirements], text, path)
    lock = path.with_name("uv.lock")
    pins = _Pins(lock, str(project.get("name", ""))) if lock.is_file() else None
    found = (
        Declared(name, specifier, DECORATOR, path.name, line)
        for item, line in requirements
        for name, specifier in (pins.pinned(item) if pins else (split(item),))
    )
    return Project(path.name, tuple(found), _python(project, path, text), _line(text, "requires-python"))


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise AnalyzeError(f"{path}: cannot read the project: {error.strerror}") from error
    except UnicodeError as error:
        raise AnalyzeError(f"{path}: the project is no UTF-8: {error}") from error


def _toml(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise AnalyzeError(f"{path}: is no TOML: {error}. Correct it.") from error


def _no_project(content: Mapping[str, Any], path: Path) -> AnalyzeError:
    tool = content.get("tool")
    if isinstance(tool, dict) and "poetry" in tool:
        return AnalyzeError(
            f"{path}: the dependencies are in [tool.poetry], in Poetry's own form: write them into `dependencies` of "
            "[project] (PEP 621), which Poetry 2 reads, too"
        )
    return AnalyzeError(f"{path}: there is no [project]: write the dependencies into `dependencies` of it (PEP 621)")


def _strings(project: Mapping[str, Any], key: str, path: Path) -> Sequence[str]:
    found = project.get(key, [])
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise AnalyzeError(f"{path}: `{key}` of [project] is not a list of texts: correct it")
    return found


def _requirement(text: str, path: Path, lines: _Lines) -> Requirement:
    try:
        text.encode()
        return Requirement(text)
    except (InvalidRequirement, UnicodeEncodeError) as error:
        raise AnalyzeError(
            f"{path.name}:{lines.of(text)}: {text!a} is no requirement (PEP 508): {str(error).splitlines()[0]}"
        ) from error


def _python(project: Mapping[str, Any], path: Path, text: str) -> SpecifierSet | None:
    written = project.get("requires-python")
    if written is None:
        return None
    try:
        return SpecifierSet(str(written))
    except InvalidSpecifier as error:
        line = _line(text, "requires-python")
        raise AnalyzeError(f'{path.name}:{line}: `requires-python = "{written}"` is not understood') from error


def _takes(specifier: SpecifierSet, python: str) -> bool:
    """Say whether a Python ``X.Y`` (any patch version of it) or ``X.Y.Z`` is taken."""
    if python.count(".") != 1:
        return specifier.contains(python, prereleases=True)
    return any(specifier.contains(f"{python}.{patch}", prereleases=True) for patch in range(50))


def _check_sources(content: Mapping[str, Any], found: Sequence[Requirement], text: str, path: Path) -> None:
    """Refuse dependencies that ``[tool.uv.sources]`` takes from a directory, a workspace or a repository."""
    tool = content.get("tool")
    uv = tool.get("uv") if isinstance(tool, dict) else None
    sources = uv.get("sources") if isinstance(uv, dict) else None
    named = {canonicalize_name(name): name for name in sources} if isinstance(sources, dict) else {}
    for item in found:
        name = named.get(canonicalize_name(item.name))
        if name is None or not isinstance(sources, dict):
            continue
        source = sources[name]
        options = [key for entry in (source if isinstance(source, list) else [source]) for key in entry]
        if any(key not in ("index", "marker", "extra", "group") for key in options):
            raise AnalyzeError(
                f"{path.name}:{_line(text, name)}: [tool.uv.sources] takes {name} from elsewhere than an "
                f"index ({', '.join(sorted(options))}): name a version of an index, or write "
                f"`{name} @ <URL of a wheel>` into `dependencies`"
            )


def _check_groups(content: Mapping[str, Any], text: str, path: Path) -> None:
    """Refuse groups that uv installs besides ``dev``, which Metaflow leaves out."""
    tool = content.get("tool")
    uv = tool.get("uv") if isinstance(tool, dict) else None
    groups = uv.get("default-groups") if isinstance(uv, dict) else None
    if groups and groups != ["dev"]:
        raise AnalyzeError(
            f"{path.name}:{_line(text, 'default-groups')}: `default-groups` of [tool.uv] adds [dependency-groups] to "
            "the environment of every step: write those dependencies into `dependencies` of [project]"
        )


def _line(text: str, key: str) -> int:
    """Return the line in which ``key = …`` stands, 1 where it does not."""
    found = re.search(rf"""^[ \t]*["']?{re.escape(key)}["']?[ \t]*=""", text, re.MULTILINE)
    return text.count("\n", 0, found.start()) + 1 if found else 1


class _Lines:
    """Finds the lines of the dependencies; one that is written with escapes has that of the list."""

    def __init__(self, text: str) -> None:
        self._text = text
        section = re.search(r"^[ \t]*\[[ \t]*project[ \t]*\]", text, re.MULTILINE)
        start = re.compile(r"^[ \t]*dependencies[ \t]*=", re.MULTILINE).search(text, section.end() if section else 0)
        self._from = start.start() if start else 0
        self._seen: dict[str, int] = {}

    def of(self, item: str) -> int:
        """Return the line of the dependency ``item``."""
        if item not in self._seen:
            places = (self._text.find(f"{quote}{item}{quote}", self._from) for quote in "\"'")
            place = min((place for place in places if place >= 0), default=self._from)
            self._seen[item] = self._text.count("\n", 0, place) + 1
        return self._seen[item]


class _Pins:
    """The versions of a project's direct dependencies in its ``uv.lock``."""

    def __init__(self, path: Path, project: str) -> None:
        self._path = path
        content = _toml(_read(path), path)
        if content.get("version") != 1:
            raise AnalyzeError(f"{path}: the lock has version {content.get('version')!r}, not 1: lock with another uv")
        packages = [item for item in content.get("package", ()) if isinstance(item, dict)]
        self._packages: dict[str, list[Mapping[str, Any]]] = {}
        for package in packages:
            self._packages.setdefault(canonicalize_name(str(package.get("name"))), []).append(package)
        roots = self._packages.get(canonicalize_name(project), [])
        root = next((item for item in roots if "registry" not in (item.get("source") or {})), None)
        if root is None:
            raise AnalyzeError(f"{path}: the lock is not that of the project '{project}': run `uv lock`")
        self._direct: dict[str, list[Mapping[str, Any]]] = {}
        for entry in root.get("dependencies", ()):
            self._direct.setdefault(canonicalize_name(str(entry.get("name"))), []).append(entry)

    def pinned(self, item: Requirement) -> Iterator[tuple[str, str]]:
        """Yield name and specifier of each version that the lock has for ``item``, with the marker under which it does.

        Raises:
            AnalyzeError: it has none, or one that does not come from an index.
        """
        name = canonicalize_name(item.name)
        if item.url:
            yield split(item)
            return
        entries = self._direct.get(name)
        if not entries:
            raise AnalyzeError(f"{self._path}: the lock lacks the dependency {item.name} of the project: run `uv lock`")
        extras = f"[{','.join(sorted(item.extras))}]" if item.extras else ""
        versions: dict[tuple[str, str | None], None] = {}
        for entry in entries:
            version = self._version(name, entry)
            if item.specifier and not item.specifier.contains(version, prereleases=True):
                raise AnalyzeError(
                    f"{self._path}: the lock has {name} {version}, but the project asks for {item}: run `uv lock`"
                )
            versions[version, entry.get("marker")] = None
        for version, marker in versions:
            condition = marker or (str(item.marker) if item.marker else "")
            yield split(Requirement(f"{name}{extras}=={version}" + (f" ; {condition}" if condition else "")))

    def _version(self, name: str, entry: Mapping[str, Any]) -> str:
        found = self._packages.get(name, [])
        matching = [item for item in found if "version" not in entry or item.get("version") == entry["version"]]
        if len(matching) != 1 or not isinstance(matching[0].get("version"), str):
            raise AnalyzeError(f"{self._path}: the lock does not say which version of {name} it has: run `uv lock`")
        source = matching[0].get("source") or {}
        if "registry" not in source:
            kind = ", ".join(sorted(source)) or "unknown"
            raise AnalyzeError(
                f"{self._path}: {name} does not come from an index ({kind}): name a version of an index there"
            )
        return str(matching[0]["version"])
