"""One advisory: a record of the Open Source Vulnerability format (OSV schema 1.x), as far as it is about PyPI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from packaging.utils import canonicalize_name

ECOSYSTEM = "PyPI"
_COMPARED = ("ECOSYSTEM", "SEMVER")
_EVENTS = ("introduced", "fixed", "last_affected", "limit")


class MalformedError(Exception):
    """A record is not as the schema says; the message begins with the place in it."""


@dataclass(frozen=True)
class Event:
    """A version at which something changes. ``kind``: ``introduced``, ``fixed``, ``last_affected`` or ``limit``."""

    kind: str
    version: str


@dataclass(frozen=True)
class Affected:
    """Which versions of one distribution an advisory is about.

    Attributes:
        name: normalized.
        versions: each by itself.
        ranges: each with its events in the order of the record; only those that compare versions, not commits.
        scores: CVSS vectors of this distribution, where they differ from the record's.
    """

    name: str
    versions: tuple[str, ...]
    ranges: tuple[tuple[Event, ...], ...]
    scores: tuple[str, ...] = ()


@dataclass(frozen=True)
class Advisory:
    """What a record says.

    Attributes:
        aliases: ids of the same vulnerability in other databases.
        summary: one line, empty when there is none.
        severity: the database's own word (``HIGH``), empty when there is none.
        scores: CVSS vectors.
        affected: the distributions of PyPI.
    """

    id: str
    aliases: tuple[str, ...]
    summary: str
    severity: str
    scores: tuple[str, ...]
    affected: tuple[Affected, ...]


def names_of(record: object) -> set[str]:
    """Return the normalized names of the PyPI distributions that ``record`` is about.

    Raises:
        MalformedError: it is no record.
    """
    return {canonicalize_name(name) for _, _, name in _packages(_object(record, "record"))}


def ecosystems_of(record: Mapping[str, Any]) -> set[str]:
    """Return the ecosystems, without suffixes, that a record, which :func:`names_of` accepts, is about."""
    packages = [item.get("package") for item in record.get("affected") or ()]
    return {str(package["ecosystem"]).partition(":")[0] for package in packages if package}


def parse(record: Mapping[str, Any]) -> Advisory:
    """Read ``record``, which :func:`names_of` accepts.

    Raises:
        MalformedError: it is not as the schema says.
    """
    specific = record.get("database_specific")
    word = specific.get("severity") if isinstance(specific, dict) else None
    return Advisory(
        id=_id(record),
        aliases=tuple(_strings(record, "aliases", "")),
        summary=" ".join(_text(record, "summary", "").split()),
        severity=word if isinstance(word, str) else "",
        scores=_scores(record, ""),
        affected=tuple(_affected(item, f"affected[{number}].", name) for number, item, name in _packages(record)),
    )


def _id(record: Mapping[str, Any]) -> str:
    if not isinstance(record.get("id"), str) or not record["id"]:
        raise MalformedError("id: missing, or not a string")
    return str(record["id"])


def _packages(record: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any], str]]:
    """Yield number, entry and name of each PyPI distribution in ``affected``."""
    _id(record)
    for number, item in enumerate(_list(record, "affected", "")):
        place = f"affected[{number}]"
        package = _object(item, place).get("package")
        if package is None:  # a record about commits only
            continue
        table = _object(package, f"{place}.package")
        ecosystem, name = (
            _required(table, "ecosystem", f"{place}.package."),
            _required(table, "name", f"{place}.package."),
        )
        if ecosystem.partition(":")[0] == ECOSYSTEM:
            yield number, item, name


def _affected(item: Mapping[str, Any], place: str, name: str) -> Affected:
    ranges = []
    for number, entry in enumerate(_list(item, "ranges", place)):
        where = f"{place}ranges[{number}]."
        if _required(_object(entry, where[:-1]), "type", where) in _COMPARED:
            ranges.append(tuple(_events(entry, where)))
    versions = tuple(_strings(item, "versions", place))
    return Affected(canonicalize_name(name), versions, tuple(ranges), _scores(item, place))


def _events(entry: Mapping[str, Any], place: str) -> Iterator[Event]:
    for number, event in enumerate(_list(entry, "events", place)):
        where = f"{place}events[{number}]"
        table = _object(event, where)
        kinds = [kind for kind in _EVENTS if kind in table]
        if len(kinds) != 1:
            raise MalformedError(f"{where}: not exactly one of {', '.join(_EVENTS)}")
        yield Event(kinds[0], _required(table, kinds[0], f"{where}."))


def _scores(table: Mapping[str, Any], place: str) -> tuple[str, ...]:
    entries = [
        _object(item, f"{place}severity[{number}]") for number, item in enumerate(_list(table, "severity", place))
    ]
    return tuple(_required(entry, "score", f"{place}severity[{number}].") for number, entry in enumerate(entries))


def _object(value: object, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise MalformedError(f"{place}: not an object")
    return value


def _list(table: Mapping[str, Any], key: str, place: str) -> list[Any]:
    value = table.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise MalformedError(f"{place}{key}: not a list")
    return value


def _strings(table: Mapping[str, Any], key: str, place: str) -> list[str]:
    values = _list(table, key, place)
    for number, value in enumerate(values):
        if not isinstance(value, str):
            raise MalformedError(f"{place}{key}[{number}]: not a string")
    return values


def _text(table: Mapping[str, Any], key: str, place: str) -> str:
    value = table.get(key)
    if value is not None and not isinstance(value, str):
        raise MalformedError(f"{place}{key}: not a string")
    return value or ""


def _required(table: Mapping[str, Any], key: str, place: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise MalformedError(f"{place}{key}: missing, or not a string")
    return value
