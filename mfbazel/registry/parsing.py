"""Reading what a registry sends: of whatever it is comes nothing worse than a ValueError or a Failure."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urljoin, urlsplit

from mfbazel.registry.errors import Failure, Kind
from mfbazel.registry.reference import HOST

_NUMBER = re.compile(r"[0-9]{1,18}")  # what a file may have of bytes, and a registry of seconds
_PORTS = {"http": 80, "https": 443}


def read_json(data: bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is none, or one that is nested too deeply.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_number(text: str) -> int | None:
    """Return a number of bytes or seconds, as headers have it; ``None`` when it is none."""
    return int(text) if _NUMBER.fullmatch(text) else None


def join(base: str, location: str) -> str:
    """Return the address that ``location`` means in an answer of ``base`` (RFC 9110, 10.2.2).

    Raises:
        Failure: it is none.
    """
    try:
        return urljoin(base, location)
    except ValueError:
        raise Failure(Kind.MALFORMED, f"it names the address {location!r}, which is none") from None


def server_of(url: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port of the server of ``url``; ``None`` when these are not told without a doubt."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    match = HOST.fullmatch(parts.netloc)
    if not match or parts.scheme not in _PORTS:
        return None
    return parts.scheme, match["host"].lower(), int(match["port"] or _PORTS[parts.scheme])
