"""Scripts that a wheel installs: entry points and the interpreter line of files in ``.data/scripts``."""

from __future__ import annotations

import configparser
import keyword
import re

_SECTIONS = ("console_scripts", "gui_scripts")
_VALUE = re.compile(r"(?P<module>[\w.]+)\s*:\s*(?P<attribute>[\w.]+)\s*(\[[^\]]*\])?")
_SHEBANG = re.compile(rb"#!python\S*(?P<options>[^\r\n]*)")
_TEXT = """\
#!{python}
# -*- coding: utf-8 -*-
import sys

from {module} import {name}

if __name__ == "__main__":
    sys.exit({attribute}())
"""


class _CaseSensitive(configparser.ConfigParser):
    optionxform = staticmethod(str)  # type: ignore[assignment]


def entry_point_scripts(text: str, python: str) -> dict[str, bytes]:
    """Return the scripts of an ``entry_points.txt``: file name → content.

    Args:
        text: of the file (PyPA specification "Entry points").
        python: absolute path of the interpreter.

    Raises:
        ValueError: the file does not parse, or an entry of ``console_scripts`` or ``gui_scripts`` names no function.
    """
    parser = _CaseSensitive(delimiters=("=",), interpolation=None, strict=True)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise ValueError(f"it does not parse: {error}") from error
    scripts = {}
    for section in _SECTIONS:
        for name, value in parser.items(section) if parser.has_section(section) else ():
            scripts[name] = _script(section, name, value, python)
    return scripts


def _script(section: str, name: str, value: str, python: str) -> bytes:
    match = _VALUE.fullmatch(value.strip())
    if (
        match is None
        or not all(map(_importable, match.group("module", "attribute")))
        or name in (".", "..")
        or "/" in name
    ):
        raise ValueError(f"[{section}] {name} = {value} is not of the form name = module:function")
    attribute = match["attribute"]
    first = attribute.partition(".")[0]
    return _TEXT.format(python=python, module=match["module"], name=first, attribute=attribute).encode()


def _importable(dotted: str) -> bool:
    """Tell whether every part can stand in an ``import`` statement."""
    return all(part.isidentifier() and not keyword.iskeyword(part) for part in dotted.split("."))


def is_wrapper(name: str, entry_points: dict[str, bytes]) -> bool:
    """Tell whether a file in ``.data/scripts`` is a launcher made in advance for one of the wheel's entry points."""
    for ending in (".exe", "-script.py", ".pya"):
        name = name.removesuffix(ending)
    return name in entry_points


def wants_interpreter(head: bytes) -> bool:
    """Tell whether a script that begins with ``head`` (8 bytes suffice) asks for the installed interpreter."""
    return head.startswith(b"#!python")


def with_interpreter(script: bytes, python: str) -> bytes:
    """Return ``script`` with ``#!python…`` in its first line replaced by ``python``; its options stay."""
    return _SHEBANG.sub(lambda match: b"#!" + python.encode() + match["options"].rstrip(), script, count=1)
