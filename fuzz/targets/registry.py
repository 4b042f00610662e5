"""Answers of a registry and references to images are read, or refused.

An input's first byte says what the rest is: a ``WWW-Authenticate`` header, or a reference.
"""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

from fuzz.targets.target import Target, expect, mutate_lines
from mfbazel.registry.auth import parse_challenges
from mfbazel.registry.errors import RegistryError
from mfbazel.registry.reference import is_loopback, parse_reference

_CREDENTIALS = re.compile(r"([a-z]+://)?[a-z]+:hunter2@(?!sha256:)[a-z]")


def run(data: bytes, _: Path) -> str:
    """Read ``data``."""
    text = data[1:].decode("utf-8", "surrogateescape")
    if data[:1] < b"\x80":
        found = parse_challenges(text)
        for challenge in found:
            expect(challenge.scheme == challenge.scheme.lower() and bool(challenge.scheme), f"{challenge}")
        return f"{min(len(found), 3)} challenges"
    try:
        reference = parse_reference(text)
    except RegistryError as error:
        secret = _CREDENTIALS.match(text) and text.count("hunter2") == 1 and "hunter2" in str(error)
        expect(not secret, f"the error has the password: {error}")
        return "refused"
    expect(parse_reference(str(reference)) == reference, f"{reference} reads as another")
    expect(".." not in reference.path.split("/") and "@" not in reference.host, f"{reference}")
    is_loopback(reference.host)
    return "reference"


def seeds() -> list[bytes]:
    """Return headers and references."""
    digest = b"sha256:" + b"0" * 64
    return [
        b'\0Bearer realm="https://auth.example.com/token",service="r",scope="repository:a:pull"',
        b'\0Basic realm="a\\"b", Bearer realm=x, error="insufficient_scope"',
        b"\0Negotiate, Basic realm=x",
        b"\xffregistry.example.com:5000/ml/churn@" + digest,
        b"\xffoci://localhost/a/b:tag",
        b"\xff[::1]:5000/a",
        b"\xffhttps://user:hunter2@example.com/a",
        b"\xffuser:hunter2@example.com/a@" + digest,
    ]


_change = mutate_lines(
    "Bearer ", "Basic", "realm=", '"', "\\", ",", " ", "=", ":", "@", "/", "sha256:" + "0" * 64, ".", "..", "-",
    "[::1]",
    "a" * 60, "localhost", "\udcff", "\u0660", "user:hunter2@",
)  # fmt: skip


def _mutate(data: bytes, random: Random) -> bytes:
    return data[:1] + _change(data[1:], random)


TARGET = Target(run, seeds, ("mfbazel.registry", "re"), _mutate)
