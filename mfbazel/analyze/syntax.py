"""Parsing: a tree, or an error that says where the text stops being Python, and which Python it would be."""

from __future__ import annotations

import ast
import importlib
import json
import math
import re
import subprocess
import sys
import warnings
from dataclasses import dataclass
from typing import Any

from mfbazel.analyze.errors import AnalyzeError

_HOST = f"{sys.version_info.major}.{sys.version_info.minor}"
_ADDED = re.compile(r"(?P<what>.*?)(?: on Python \d+\.\d+)? \(syntax was added in Python (?P<version>\d+\.\d+)\)")
_LIMITS = ("too many ", "Exceeds the limit")
"""How Python begins when a text goes beyond what it takes, whatever its version."""
_PARSER_SECONDS = 10.0
_SEARCHED = 400_000
"""Characters of the largest text in which the line that is nested too deeply is looked for."""


def parse_text(text: str, shown: str) -> ast.Module:
    """Parse ``text``, which errors call ``shown``. Python's warnings about the text are not shown.

    Raises:
        AnalyzeError: it is no Python of this version (with line and column; where a newer Python would take it, this is
            what the error says), or it is nested more deeply than Python can parse.
    """
    try:
        return _parse(text)
    except SyntaxError as error:
        raise _newer(text, shown, error) or _broken(shown, error) from error
    except ValueError as error:
        raise AnalyzeError(f"{shown}:1:1: the file does not parse: {error}. Correct it and try again.") from error
    except (RecursionError, MemoryError):
        raise AnalyzeError(
            f"{shown}:{_too_deep_line(text)}:1: the code is nested too deeply for Python {_HOST}, or there is too "
            "little memory to parse it: split the expression or the chain of `elif` into parts"
        ) from None


def _parse(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text)


def _broken(shown: str, error: SyntaxError) -> AnalyzeError:
    place = f"{shown}:{max(error.lineno or 1, 1)}:{max(error.offset or 1, 1)}"
    return AnalyzeError(f"{place}: the file does not parse: {error.msg} (Python {_HOST}). Correct it and try again.")


def _too_deep_line(text: str) -> int:
    """Return the first line with which ``text`` is too deep; 1 where looking for it would take too long."""
    if len(text) > _SEARCHED:
        return 1
    lines = text.split("\n")
    good, bad = 0, len(lines)
    while bad - good > 1:
        middle = (good + bad) // 2
        if _is_too_deep("\n".join(lines[:middle])):
            bad = middle
        else:
            good = middle
    return bad


def _is_too_deep(text: str) -> bool:
    try:
        _parse(text)
    except (RecursionError, MemoryError):
        return True
    except (SyntaxError, ValueError):
        return False
    return False


@dataclass(frozen=True)
class _Finding:
    """What ruff's parser says of a place. ``version`` is the Python that takes it, ``None`` where none does."""

    line: int
    column: int
    message: str
    version: tuple[int, int] | None


def _newer(text: str, shown: str, error: SyntaxError) -> AnalyzeError | None:
    """Return the error for syntax of a newer Python, or ``None`` when that is not (known to be) why it fails."""
    if (error.msg or "").startswith(_LIMITS):
        return None
    findings = sorted(_findings(text), key=lambda item: (item.line, item.column))
    versions = [item.version for item in findings if item.version]
    if not versions or not findings[0].version or findings[0].line > _last_line(error):
        return None
    first, needed = findings[0], ".".join(map(str, max(versions)))
    return AnalyzeError(
        f"{shown}:{first.line}:{first.column}: this needs Python {needed} or newer, and the analyzer runs on Python "
        f"{_HOST} ({first.message}): run the analyzer with Python {needed} or newer, or write it without this syntax"
    )


def _last_line(error: SyntaxError) -> float:
    """Return the last line that ``error`` can mean; the lines of errors in f-strings are not to be relied on."""
    if "f-string" in (error.msg or ""):
        return math.inf
    return max(error.lineno or 1, error.end_lineno or 1)


def _findings(text: str) -> list[_Finding]:
    """Return what ruff's parser, which knows the syntax of all Pythons, says of ``text``; nothing without ruff."""
    command = _ruff()
    if not command:
        return []
    target = f"py{sys.version_info.major}{sys.version_info.minor}"
    options = ["--isolated", "--no-cache", "--select", "E902", "--target-version", target, "--output-format", "json"]
    try:
        ended = subprocess.run(
            [command, "check", *options, "--stdin-filename", "flow.py", "-"],
            input=text.encode(),
            capture_output=True,
            timeout=_PARSER_SECONDS,
            check=False,
        )
        entries = json.loads(ended.stdout)
        return [_finding(entry) for entry in entries if entry["code"] == "invalid-syntax"]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        return []  # a ruff of another kind, or one that this Python is too new for: Python's own message serves


def _finding(entry: dict[str, Any]) -> _Finding:
    found = _ADDED.fullmatch(str(entry["message"]))
    message = found["what"] if found else str(entry["message"])
    version = None
    if found:
        major, _, minor = found["version"].partition(".")
        version = (int(major), int(minor))
    return _Finding(entry["location"]["row"], entry["location"]["column"], message, version)


def _ruff() -> str | None:
    """Return the path of the ruff that is installed with this Python."""
    try:
        return str(importlib.import_module("ruff").find_ruff_bin())
    except (ImportError, AttributeError, OSError):
        return None
