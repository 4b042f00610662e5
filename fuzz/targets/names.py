"""A path that is not refused lies below every directory that it is put into, and a layer's tar keeps it as it is.

An input is text: paths, one a line.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
from pathlib import Path

from fuzz.targets.target import Target, expect, mutate_lines
from mfbazel.layer.tar import END, Entry, header
from mfbazel.wheel.paths import Folded, folded, unsafe


def run(data: bytes, _: Path) -> str:
    """Judge every line of ``data`` as a path."""
    taken = []
    for path in data.decode("utf-8", "surrogateescape").split("\n"):
        if unsafe(path) is None:
            taken.append(path)
            _check(path)
        expect(folded(folded(path, case=True), case=True) == folded(path, case=True), f"{path!r} folds twice")
    _compare(taken)
    return f"{min(len(taken), 3)} taken"


def _check(path: str) -> None:
    whole = f"opt/venv/{path}"
    expect(posixpath.normpath(whole) == whole, f"{path!r} is not normal")
    expect(len(whole.encode()) < 4096, f"{path!r} is too long")
    expect(all(len(part.encode()) <= 255 for part in whole.split("/")), f"{path!r} has a part that is too long")
    with tarfile.open(fileobj=io.BytesIO(header(Entry(whole)) + END)) as archive:
        expect(archive.getnames() == [whole], f"{path!r} becomes {archive.getnames()}")


def _compare(paths: list[str]) -> None:
    seen = Folded(case=True)
    clash = any(seen.clash(path) for path in paths)
    different = set(paths)
    if len({path.lower() for path in different}) < len(different):
        expect(clash, f"{paths!r}: a clash of case is not seen")


def seeds() -> list[bytes]:
    """Return paths of all sorts."""
    return [
        b"demo/__init__.py",
        b"../x\n/etc/passwd\na//b\na/./b\na/../../b",
        b"C:/x\na\\b\n.wh.x\na/.wh..wh..opq",
        "demo/\u00e9.py\ndemo/e\u0301.py\ncaf\u00e9/x\ncafe\u0301/y".encode(),
        b"A/b\na/B\na/b",
        b"x" * 256 + b"\n" + b"d/" * 2000 + b"x",
        ("\u202e/x\na\u2028b\n\x85\n" + "\u00e4" * 130 + "/" + "b" * 90).encode(),
        b"a" * 100 + b"/" + b"b" * 155 + b"/c\n" + b"a" * 99 + b"/" + b"b" * 100,
    ]


_mutate = mutate_lines(
    "/", "..", ".", "\\", "\u00e9", "e\u0301", "\0", "\u202e", "K", "\u212a", "\u00df", "x" * 90, "C:", ".wh."
)
TARGET = Target(run, seeds, ("mfbazel.layer.tar", "mfbazel.wheel"), _mutate)
