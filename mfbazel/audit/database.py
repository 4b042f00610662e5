"""Advisories from files: one record, a list, JSON lines, a directory of such files, or a zip as OSV exports it."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mfbazel.audit.advisory import ECOSYSTEM, Advisory, MalformedError, ecosystems_of, names_of, parse
from mfbazel.audit.errors import AuditError

_SUFFIXES = (".json", ".jsonl", ".ndjson")
_LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Database:
    """Advisories by normalized distribution name.

    Attributes:
        count: records about PyPI that were read, also about other distributions; those withdrawn do not count.
        newest: the time (RFC 3339) at which the newest record was modified, empty when none says so.
    """

    advisories: Mapping[str, Sequence[Advisory]]
    count: int
    newest: str

    def of(self, name: str) -> Sequence[Advisory]:
        """Return the advisories about the distribution ``name``, normalized."""
        return self.advisories.get(name, ())


@dataclass(frozen=True)
class _Entry:
    """What is kept of a record. ``advisory``: ``None`` where no distribution in question is affected."""

    modified: str
    withdrawn: bool
    advisory: Advisory | None


def read_database(paths: Sequence[Path], names: Collection[str]) -> Database:
    """Read the advisories about the distributions ``names`` from ``paths``.

    Of several records with the same id, the one modified last counts; withdrawn ones do not.

    Args:
        paths: files or directories.
        names: normalized.

    Raises:
        AuditError: a path cannot be read, holds no records, or one that is malformed.
    """
    wanted = frozenset(names)
    entries: dict[str, _Entry] = {}
    for path in paths:
        _read(path, wanted, entries)
    valid = [entry for entry in entries.values() if not entry.withdrawn]
    advisories: dict[str, list[Advisory]] = {}
    for entry in valid:
        for name in sorted({item.name for item in entry.advisory.affected} & wanted) if entry.advisory else ():
            advisories.setdefault(name, []).append(cast(Advisory, entry.advisory))
    return Database(advisories, len(valid), max((entry.modified for entry in valid), default=""))


def _read(path: Path, wanted: frozenset[str], entries: dict[str, _Entry]) -> None:
    """Enter the records of ``path`` into ``entries``, by id."""
    others: set[str] = set()
    found = False
    for place, record in _records(path):
        try:
            about = names_of(record)
            modified = str(record.get("modified") or "")
            if about and (record["id"] not in entries or modified >= entries[record["id"]].modified):
                advisory = parse(record) if about & wanted else None
                entries[record["id"]] = _Entry(modified, bool(record.get("withdrawn")), advisory)
        except MalformedError as error:
            raise _malformed(record, place, error) from error
        found = found or bool(about)
        others |= ecosystems_of(record)
    if others and not found:
        raise AuditError(
            f"{path}: no advisory is about {ECOSYSTEM}, only about {', '.join(sorted(others))}: give the export of the "
            f"ecosystem {ECOSYSTEM}"
        )


def _malformed(record: object, place: str, error: MalformedError) -> AuditError:
    name = record.get("id") if isinstance(record, dict) else None
    who = f" {name}" if isinstance(name, str) else ""
    return AuditError(f"{place}: the advisory{who} is not as the OSV schema says: {error}")


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield place and content of each record in ``path``."""
    try:
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES and file.is_file())
            if not files:
                raise AuditError(f"{path}: no {' or '.join(_SUFFIXES)} file is in this directory of advisories")
            for file in files:
                yield from _of_text(file.read_bytes(), str(file), file.suffix)
        elif zipfile.is_zipfile(path):
            yield from _of_zip(path)
        else:
            yield from _of_text(path.read_bytes(), str(path), path.suffix)
    except OSError as error:
        raise AuditError(f"{path}: cannot read the advisories: {error.strerror or error}") from error


def _of_zip(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [info for info in archive.infolist() if Path(info.filename).suffix in _SUFFIXES]
            if not entries:
                raise AuditError(f"{path}: no {' or '.join(_SUFFIXES)} file is in this archive of advisories")
            for info in entries:
                yield from _of_text(archive.read(info), f"{path}!{info.filename}", Path(info.filename).suffix)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # the last: encrypted, or unknown methods
        raise AuditError(f"{path}: the archive of advisories is damaged: {error}. Get it again.") from error


def _of_text(content: bytes, place: str, suffix: str) -> Iterator[tuple[str, Any]]:
    """Yield the records of one file: an object, a list of them, ``{"vulns": […]}``, or one object per line."""
    if suffix in _LINES:
        yield from _of_lines(content, place)
        return
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":
            yield from _of_lines(content, place)
            return
        raise _not_json(error, place) from error
    if isinstance(value, dict) and "vulns" in value and "id" not in value:
        value = value["vulns"]
    if isinstance(value, list):
        yield from ((f"{place}: [{number}]", record) for number, record in enumerate(value))
    else:
        yield place, value


def _of_lines(content: bytes, place: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(content.split(b"\n"), 1):
        if line.strip():
            try:
                yield f"{place}:{number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                raise _not_json(error, place, number) from error


def _not_json(error: ValueError | RecursionError, place: str, line: int | None = None) -> AuditError:
    if isinstance(error, json.JSONDecodeError):
        return AuditError(f"{place}:{line or error.lineno}:{error.colno}: the advisories are not JSON: {error.msg}")
    return AuditError(f"{place}{f':{line}' if line else ''}: the advisories are not JSON: {error}")
