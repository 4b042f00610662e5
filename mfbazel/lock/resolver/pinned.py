"""Distributions that come from one index of the policy and from no other, which has nothing else to give.

uv pins what a project requires itself to an index (``tool.uv.sources``), and what that requires in turn to none. So
the distributions of a policy's indexes that a resolution brings are required directly, too, by a project that is
written for this purpose; what they bring is resolved again, until nothing new of theirs comes.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit, urlunsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mfbazel.lock.errors import LockError
from mfbazel.lock.model import Index, Pin
from mfbazel.lock.requirements_txt import parse_resolved
from mfbazel.lock.resolver.request import Request, ResolverFailure, words
from mfbazel.wheel.pip_environment import UnsetVariableError, expand_url

PROJECT = "pyproject.toml"
_NAME = "mfbazel-toml"
_ORIGIN = f"{_NAME} ({PROJECT})"
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==")
_FROM = re.compile(r"^\s+# from (?P<place>\S+)\s*$", re.MULTILINE)
_ABSENT = re.compile(r"\b([A-Za-z0-9][A-Za-z0-9._-]*) was not found in the (?:package registry|cache)")


@dataclass(frozen=True)
class Pinned:
    """The ``indexes`` of a policy. ``environment``: variables for their URLs."""

    indexes: Sequence[Index]
    environment: Mapping[str, str]

    @cached_property
    def urls(self) -> dict[str, str]:
        """The URLs by name, with their variables replaced; without those of which a variable is not set."""
        found = {}
        for index in self.indexes:
            with contextlib.suppress(UnsetVariableError):
                found[index.name] = expand_url(index.url, self.environment)
        return found

    def _url(self, index: Index) -> str:
        try:
            return expand_url(index.url, self.environment)
        except UnsetVariableError as error:
            raise LockError(f"mfbazel.toml: {index.where or index.name}: `url`: {error}") from error

    @property
    def hidden(self) -> dict[str, str]:
        """What is written for URLs with variables where texts are shown."""
        return {
            url: index.url for index in self.indexes if (url := self.urls.get(index.name, "")) not in ("", index.url)
        }

    def of(self, name: str) -> Index | None:
        """Return the index from which the distribution ``name`` comes; ``None``: those of the user's configuration."""
        return next((index for index in self.indexes if index.takes(canonicalize_name(name))), None)

    def among(self, names: Iterable[str]) -> frozenset[str]:
        """Return those of ``names`` that come from one of the indexes."""
        return frozenset(name for name in map(canonicalize_name, names) if self.of(name))

    def refuse_overrides(self, request: Request) -> None:
        """Refuse overrides of pinned distributions, for which uv would ask other indexes.

        Raises:
            LockError: there is one.
        """
        for text in request.overrides:
            index = self.of(Requirement(text).name)
            if index:
                raise LockError(
                    f"mfbazel.toml: `overrides`: '{text}', and {index.where} says where it comes from: both at once do "
                    "not work. Write a constraint, or require it directly."
                )

    def project(self, requirements: Mapping[str, str]) -> str:
        """Return a ``pyproject.toml`` that requires pinned distributions: requirements by normalized name.

        Raises:
            LockError: a variable of an index's URL is not set.
        """
        used = {index.name: index for name in requirements if (index := self.of(name))}
        sources = (f"{_quoted(name)} = {{ index = {_quoted(self._of(name))} }}" for name in sorted(requirements))
        lines = [
            "[project]",
            f"name = {_quoted(_NAME)}",
            'version = "0"',
            f"dependencies = [{', '.join(map(_quoted, sorted(requirements.values())))}]",
            "[tool.uv.sources]",
            *sources,
        ]
        for name, index in used.items():
            lines += ["[[tool.uv.index]]", f"name = {_quoted(name)}", f"url = {_quoted(self._url(index))}"]
            lines += ["explicit = true"]
        return "\n".join(lines) + "\n"

    def _of(self, name: str) -> str:
        index = self.of(name)
        return index.name if index else ""

    def verify(self, annotated: str) -> None:
        """Check where the distributions of the requirements file ``annotated`` come from, as uv says.

        Raises:
            LockError: a pinned one comes from elsewhere, or another one comes from a pinned one's index.
        """
        places = {_comparable(url): name for name, url in self.urls.items()}
        for name, place in _origins(annotated).items():
            index = self.of(name)
            actual = places.get(_comparable(place))
            if index and _comparable(place) != _comparable(self._url(index)):
                raise LockError(
                    f"{name} comes from {_shown(place)}, not from the index '{index.name}' that mfbazel.toml "
                    f"({index.where}) names for it; nothing was locked"
                )
            if actual and not index:
                raise LockError(
                    f"{name} comes from the index '{actual}', which mfbazel.toml ([[lock.index]]) has for other "
                    "packages; nothing was locked. Add it to `packages` there, or take that index out of your pip or "
                    "uv configuration."
                )


def settle(
    pinned: Pinned,
    direct: frozenset[str],
    carried: frozenset[str],
    ask: Callable[[frozenset[str], frozenset[str]], str],
) -> dict[str, Pin]:
    """Resolve until everything of the policy's indexes comes from them.

    Args:
        pinned: the indexes.
        direct: the pinned distributions that are required in any case.
        carried: those to begin with.
        ask: resolves; takes the names that the project shall require and those that must not be there, and returns the
            requirements file.

    Raises:
        ResolverFailure: of ``ask``.
        LockError: see :meth:`Pinned.verify`.
    """
    banned: frozenset[str] = frozenset()
    tried: set[tuple[frozenset[str], frozenset[str]]] = set()
    first: ResolverFailure | None = None
    while True:
        tried.add((carried, banned))
        try:
            annotated = ask(carried, banned)
        except ResolverFailure as failure:
            more = pinned.among(words(failure.text)) - carried - banned
            absent = frozenset(map(canonicalize_name, _ABSENT.findall(failure.text))) & (carried - direct)
            if failure.unreachable or not (more or absent):
                raise (first or failure) from None
            # What requires something that its index does not have is out of the question.
            banned |= absent
            carried = (carried | more) - absent
            first = first or (failure if absent else None)
            continue
        pins = parse_resolved(_FROM.sub("", annotated))
        reached = _reached(pins)
        wanted = pinned.among(reached)
        if wanted <= carried and (wanted == carried or (wanted, banned) in tried):
            pinned.verify(annotated)
            return {name: _without_project(pin) for name, pin in pins.items() if name in reached or not carried}
        carried = carried | wanted if (wanted, banned) in tried else wanted


def _reached(pins: Mapping[str, Pin]) -> set[str]:
    """Return what something else than the project needs: what the annotations lead to from the other requirements."""
    asked_by = {name: set(_without_project(pin).via) for name, pin in pins.items()}
    reached = {name for name, vias in asked_by.items() if any(via.startswith("-r ") for via in vias)}
    while more := {name for name, vias in asked_by.items() if name not in reached and vias & reached}:
        reached |= more
    return reached


def _without_project(pin: Pin) -> Pin:
    return Pin(pin.name, pin.version, tuple(via for via in pin.via if via != _ORIGIN))


def _origins(annotated: str) -> dict[str, str]:
    """Return by normalized name what the lines ``# from …`` say."""
    found: dict[str, str] = {}
    current = ""
    for line in annotated.splitlines():
        pin, origin = _PIN.match(line), _FROM.match(line)
        if pin:
            current = canonicalize_name(pin["name"])
            found[current] = ""
        elif origin:
            found[current] = origin["place"]
    return found


def _comparable(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2].lower(), path=parts.path.rstrip("/")))


def _shown(place: str) -> str:
    return _comparable(place) or "an index that uv does not name"


def _quoted(text: str) -> str:
    """Return ``text`` as a basic string of TOML."""
    return '"' + re.sub(r'["\\\x00-\x1f\x7f]', lambda match: f"\\u{ord(match[0]):04x}", text) + '"'
