"""RECORD files (PyPA specifications "Recording installed projects" and "Binary distribution format")."""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

ALGORITHMS = ("sha256", "sha384", "sha512")
"""Hashes that a wheel's RECORD may use: the specification asks for sha256 or better."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What RECORD says about a file: hash algorithm, digest, and size in bytes (``None`` where it is silent)."""

    algorithm: str
    digest: bytes
    size: int | None

    @property
    def text(self) -> str:
        """The second column: ``sha256=`` and the digest in base64 without padding."""
        return f"{self.algorithm}={base64.urlsafe_b64encode(self.digest).decode().rstrip('=')}"


def recorded(data: bytes) -> Recorded:
    """Return the RECORD entry of content in memory."""
    return Recorded("sha256", hashlib.sha256(data).digest(), len(data))


def parse_record(data: bytes) -> dict[str, Recorded | None]:
    """Parse a wheel's RECORD: path → entry, ``None`` where no hash is given.

    Raises:
        ValueError: a line is malformed, a path is listed twice with different values, or a hash is weak; the text
            names the line.
    """
    result: dict[str, Recorded | None] = {}
    # Line by line: a string buffer takes four times the size of a file that may list a hundred thousand others.
    lines = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline="")
    for number, row in enumerate(_rows(lines), 1):
        if not row:
            continue
        if len(row) != 3:
            raise ValueError(f"line {number} has {len(row)} columns, not 3 (path, hash, size)")
        entry = _entry(row, number)
        if result.setdefault(row[0], entry) != entry:
            raise ValueError(f"line {number}: {row[0]} is listed twice, differently")
    return result


def _rows(lines: Iterable[str]) -> Iterator[list[str]]:
    try:
        yield from csv.reader(lines, strict=True)
    except csv.Error as error:
        raise ValueError(str(error)) from error


def _entry(row: list[str], number: int) -> Recorded | None:
    path, value, size = row
    if not value:
        return None
    algorithm, _, encoded = value.partition("=")
    if algorithm not in ALGORITHMS:
        raise ValueError(f"line {number}: {path} has a hash {algorithm!r}; accepted are {', '.join(ALGORITHMS)}")
    try:
        digest = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        length = int(size) if size else None
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"line {number}: hash or size of {path} is malformed: {error}") from error
    if len(digest) != hashlib.new(algorithm).digest_size:
        raise ValueError(f"line {number}: the {algorithm} of {path} has {len(digest)} bytes")
    return Recorded(algorithm, digest, length)


def format_record(rows: Iterable[tuple[str, Recorded | None]]) -> bytes:
    """Return the content of a RECORD, sorted by path; ``None`` leaves hash and size empty (RECORD's own line)."""
    data = io.BytesIO()
    out = io.TextIOWrapper(data, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(out, lineterminator="\n")
    for path, entry in sorted(rows, key=lambda row: row[0]):
        if entry is None:
            writer.writerow((path, "", ""))
        else:
            writer.writerow((path, entry.text, "" if entry.size is None else entry.size))
    return data.getvalue()
