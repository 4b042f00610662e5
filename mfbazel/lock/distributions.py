"""From the name of an import to the distribution that provides it.

The order: what the user says (``imports`` of ``metaflow_flow``), the wheels of the step's lock, then a mapping of known
names, and last a guess. The mapping is data of two pinned, kept packages, of which no code is run: ``pipreqs`` (its
file ``mapping``) and ``conda-pypi`` (``grayskull_pypi_mapping.json``).
"""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from packaging.utils import canonicalize_name

from mfbazel.lock.errors import LockError

_DEEPEST = 50
_PIPREQS = ("pipreqs", "mapping")
_CONDA_PYPI = ("conda_pypi", "grayskull_pypi_mapping.json")
UNLISTED = {"distutils": "setuptools"}
"""What the data lacks: ``distutils`` left the standard library for setuptools, whose wheel names it nowhere."""


@dataclass(frozen=True)
class Answer:
    """The distributions that may provide ``name``.

    Attributes:
        name: the import name that was looked up.
        known: the part of it that decided.
        candidates: normalized names, sorted; empty when the user says that nothing has to be installed for it.
        source: ``imports`` (the user), ``lock``, ``mapping`` or ``guess``.
    """

    name: str
    known: str
    candidates: tuple[str, ...]
    source: str


def import_names(module: str, members: Iterable[str]) -> list[str]:
    """Return the names to look up for an import: those of the members, which may be modules, else the module's."""
    return [f"{module}.{member}" for member in members] or [module]


@dataclass
class Provided:
    """The modules of the wheels of one environment.

    Attributes:
        modules: distributions by module, as flow.json has them (``google.cloud.storage``).
        complete: whether the modules of every wheel are known; not in a lock of an older version.
    """

    modules: dict[str, set[str]] = field(default_factory=dict)
    complete: bool = True
    _namespaces: dict[str, set[str]] = field(default_factory=dict)

    def add(self, distribution: str, modules: Iterable[str] | None) -> None:
        """Enter the wheel of ``distribution``."""
        if modules is None:
            self.complete = False
            return
        for module in modules:
            self.modules.setdefault(module, set()).add(distribution)
            for prefix in _prefixes(module)[1:]:
                self._namespaces.setdefault(prefix, set()).add(distribution)

    def look_up(self, name: str) -> Answer | None:
        """Return who provides ``name``: by its longest part that is a module, else as a namespace."""
        for prefix in _prefixes(name):
            if prefix in self.modules:
                return Answer(name, prefix, tuple(sorted(self.modules[prefix])), "lock")
        if name in self._namespaces:
            return Answer(name, name, tuple(sorted(self._namespaces[name])), "lock")
        return None


@dataclass(frozen=True)
class Names:
    """What is known of import names besides the wheels. ``user``: distributions by import name, empty for none."""

    user: Mapping[str, str] = field(default_factory=dict)

    def by_user(self, name: str) -> Answer | None:
        """Return what the user says of ``name`` or of a package around it."""
        for prefix in _prefixes(name):
            if prefix in self.user:
                text = self.user[prefix]
                return Answer(name, prefix, (canonicalize_name(text),) if text else (), "imports")
        return None

    def by_mapping(self, name: str) -> Answer:
        """Return what the mapping says of ``name``, else the guess that the distribution is called like the import."""
        mapping = known_names()
        below = ""
        for prefix in _prefixes(name):
            found = mapping.get(prefix, ())
            if len(found) > 1 and below and prefix in _namespaces():
                return _in_namespace(name, below, found)
            if found:
                return Answer(name, prefix, found, "mapping")
            below = prefix
        top = name.partition(".")[0]
        return Answer(name, top, (canonicalize_name(top),), "guess")


@functools.lru_cache(maxsize=1)
def known_names() -> Mapping[str, tuple[str, ...]]:
    """Return the mapping: normalized distributions by import name, several where that is ambiguous.

    A source that has, among others, a distribution called like the import means that one. Of two sources, what both
    say holds; if they agree on nothing, everything that either says.

    Raises:
        LockError: the data is not installed.
    """
    sources = (_of_source(_pipreqs()), _of_source(_conda_pypi()))
    merged: dict[str, tuple[str, ...]] = {
        name: (canonicalize_name(distribution),) for name, distribution in UNLISTED.items()
    }
    for name in {*sources[0], *sources[1]} - merged.keys():
        first, second = (source.get(name, set()) for source in sources)
        merged[name] = tuple(sorted((first & second) or (first | second)))
    return merged


def _in_namespace(name: str, known: str, candidates: tuple[str, ...]) -> Answer:
    """Return who provides ``name``, which begins with ``known`` in a namespace that all ``candidates`` have a part in.

    That is the candidate called like the last part of ``known`` (``protobuf`` for ``google.protobuf``), else, as a
    guess, the one called as is usual in namespaces (``google-cloud-bigquery`` for ``google.cloud.bigquery``).
    """
    part = canonicalize_name(known.rpartition(".")[2])
    if part in candidates:
        return Answer(name, known, (part,), "mapping")
    own = canonicalize_name(known)
    return Answer(name, known, (own,), "mapping" if own in candidates else "guess")


@functools.lru_cache(maxsize=1)
def _namespaces() -> frozenset[str]:
    """Return the names in the mapping that have others inside."""
    return frozenset(prefix for name in known_names() for prefix in _prefixes(name)[1:])


def _of_source(pairs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, distribution in pairs:
        found.setdefault(name, set()).add(canonicalize_name(distribution))
    return {name: {own} if (own := canonicalize_name(name)) in named else named for name, named in found.items()}


def _pipreqs() -> Iterator[tuple[str, str]]:
    """Yield import name and distribution: lines ``name:distribution``, several of one name."""
    for line in _data(_PIPREQS).splitlines():
        name, colon, distribution = line.strip().partition(":")
        if colon and name and distribution:
            yield name, distribution


def _conda_pypi() -> Iterator[tuple[str, str]]:
    for entry in json.loads(_data(_CONDA_PYPI)).values():
        if entry.get("import_name") and entry.get("pypi_name"):
            yield entry["import_name"], entry["pypi_name"]


@functools.lru_cache(maxsize=2)
def _data(place: tuple[str, str]) -> str:
    """Read a file of an installed package without importing it."""
    package, file = place
    spec = importlib.util.find_spec(package)
    for directory in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(directory) / file
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise LockError(
        f"the package {package.replace('_', '-')}, whose data names the distributions of imports, is not installed "
        f'(no {package}/{file}): install it beside mfbazel, or set `infer = "off"`'
    )


def _prefixes(name: str) -> list[str]:
    """Return ``a.b.c``, ``a.b`` and ``a``."""
    parts = name.split(".")[:_DEEPEST]
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
