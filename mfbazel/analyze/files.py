"""The text of a Python file, whatever the file is: Python's rules for encodings and line ends, and clear refusals."""

from __future__ import annotations

import codecs
import os
import re
import stat
from io import FileIO
from pathlib import Path

from mfbazel.analyze.errors import AnalyzeError

MAX_BYTES = 4_000_000
"""The largest file that is read."""
MAX_MARKS = 400_000
"""Line ends and punctuation in it: about as many as its tree has nodes, each of which takes 1 to 2 kB of memory. Code
has five to eight in a line, so this is more than 50,000 lines."""

_BOM = b"\xef\xbb\xbf"
_OTHER_BOMS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_COOKIE = re.compile(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_MARKS = b"\n;,()[]{}.:=+-*/%&|^<>@~!\"'`"
_BLANK = re.compile(rb"[ \t\f]*(?:#.*)?$")
_NO_SOURCE = frozenset({"idna", "punycode", "undefined"})
"""Codecs of Python in which no source is written; the first two take quadratic time."""


def read_text(path: Path, shown: str) -> str:
    r"""Return the text of the Python file ``path`` with ``\n`` at the end of its lines.

    The encoding is that of PEP 263: a byte order mark of UTF-8, or a comment in the first two lines, else UTF-8.

    Args:
        path: the file; symbolic links are followed.
        shown: how errors name it.

    Raises:
        AnalyzeError: it is no regular file, cannot be read, is larger than :data:`MAX_BYTES` or :data:`MAX_MARKS`, is
            no text, or is not in the encoding that it names.
    """
    try:
        shown.encode()
    except UnicodeEncodeError as error:
        raise AnalyzeError(f"{shown!a}: the name of the file is no UTF-8: rename it") from error
    content = _read(path, shown).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    _refuse_binary(content, shown)
    _refuse_much(content, shown)
    encoding = _encoding(content, shown)
    try:
        text = content.removeprefix(_BOM).decode(encoding)
    except UnicodeDecodeError as error:
        raise _undecodable(content.removeprefix(_BOM), error, shown) from error
    except UnicodeError as error:
        raise AnalyzeError(f"{shown}:1:1: the file is not in its encoding '{encoding}': {error}") from error
    if encoding != "utf-8":
        _refuse_surrogates(text, encoding, shown)
    return text


def _read(path: Path, shown: str) -> bytes:
    """Return what is in ``path``; never wait for a pipe or a device, and never read more than the limit."""
    try:
        with open(path, "rb", buffering=0, opener=_open) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise AnalyzeError(f"{shown}: it is no regular file: name the file that holds the flow's code")
            content = _at_most(file, MAX_BYTES + 1)
    except OSError as error:
        raise AnalyzeError(f"{shown}: cannot read the file: {error.strerror or error}") from error
    except ValueError as error:
        raise AnalyzeError(f"{shown}: cannot read the file: {error}") from error
    if len(content) > MAX_BYTES:
        raise AnalyzeError(
            f"{shown}: the file has more than {MAX_BYTES:,} bytes, the limit for source: "
            "move data out of it, into a file that the flow reads or into a package"
        )
    return content


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _at_most(file: FileIO, size: int) -> bytes:
    content = bytearray()
    while len(content) < size and (part := file.read(size - len(content))):
        content += part
    return bytes(content)


def _refuse_binary(content: bytes, shown: str) -> None:
    for bom, name in _OTHER_BOMS.items():
        if content.startswith(bom):
            raise AnalyzeError(f"{shown}:1:1: the file is {name}, which Python does not read: save it as UTF-8")
    position = content.find(b"\0")
    if position >= 0:
        place = _place(content[:position].decode("utf-8", "replace"))
        raise AnalyzeError(f"{shown}:{place}: the file does not parse: a NUL byte is in it. Is it the right file?")


def _refuse_much(content: bytes, shown: str) -> None:
    if len(content) > MAX_MARKS and len(content) - len(content.translate(None, _MARKS)) > MAX_MARKS:
        raise AnalyzeError(
            f"{shown}: the file has more than {MAX_MARKS:,} line ends and punctuation marks, the limit for code: "
            "move data out of it, into a file that the flow reads or into a package"
        )


def _encoding(content: bytes, shown: str) -> str:
    """Return the name of the codec that Python reads ``content`` with."""
    bom = content.startswith(_BOM)
    cookie, line = _cookie(content.removeprefix(_BOM))
    if bom and cookie not in (None, "utf-8"):
        raise AnalyzeError(
            f"{shown}:{line}:1: the file says that its encoding is '{cookie}', but begins with the byte order mark of "
            "UTF-8: remove one of the two"
        )
    if cookie is None:
        return "utf-8"
    try:
        "".encode(cookie)
        b"".decode(cookie)
        known = codecs.lookup(cookie).name not in _NO_SOURCE
    except (LookupError, UnicodeError):
        known = False
    if not known:
        raise AnalyzeError(
            f"{shown}:{line}:1: '{cookie}' is no encoding of Python source: "
            "correct the comment, or save the file as UTF-8"
        )
    return cookie


def _cookie(content: bytes) -> tuple[str | None, int]:
    """Return the encoding that a comment of the first two lines names, normalized as Python does, and the line."""
    for number, line in enumerate(content.split(b"\n", 2)[:2], start=1):
        if found := _COOKIE.match(line):
            name = found[1].decode()
            start = name[:12].lower().replace("_", "-")
            if f"{start}-".startswith("utf-8-"):
                return "utf-8", number
            latin = any(f"{start}-".startswith(f"{alias}-") for alias in ("latin-1", "iso-8859-1", "iso-latin-1"))
            return "iso-8859-1" if latin else name, number
        if not _BLANK.match(line):
            break
    return None, 0


def _undecodable(content: bytes, error: UnicodeDecodeError, shown: str) -> AnalyzeError:
    place = _place(content[: error.start].decode(error.encoding, "replace"))
    found = content[error.start : error.start + 1].hex()
    hint = (
        "Save it as UTF-8, or name its encoding in the first line, as in `# -*- coding: latin-1 -*-`"
        if error.encoding == "utf-8"
        else "Correct the comment that names the encoding, or save the file as UTF-8"
    )
    return AnalyzeError(f"{shown}:{place}: the byte 0x{found} is not {error.encoding}: {error.reason}. {hint}.")


def _refuse_surrogates(text: str, encoding: str, shown: str) -> None:
    """Refuse halves of surrogate pairs, which some codecs let through and Python's parser does not."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        place = _place(text[: error.start])
        raise AnalyzeError(
            f"{shown}:{place}: '{encoding}' makes half a surrogate pair of what is here: save the file as UTF-8"
        ) from error


def _place(before: str) -> str:
    """Return ``line:column`` (both from 1) of the character after ``before``."""
    newline = "\n"
    return f"{before.count(newline) + 1}:{len(before) - before.rfind(newline)}"
