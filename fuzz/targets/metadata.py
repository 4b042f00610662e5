"""The texts of a wheel (RECORD, entry_points.txt, METADATA, scripts, direct_url.json) are read, or refused.

An input's first byte says which text the rest is.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

from fuzz.targets.target import Target, expect, mutate_lines
from mfbazel.layer.direct_url import direct_url
from mfbazel.layer.errors import LayerError
from mfbazel.layer.record import format_record, parse_record
from mfbazel.layer.scripts import entry_point_scripts, with_interpreter
from mfbazel.lock.wheels.licenses import license_in
from mfbazel.wheel.limits import parse_limits

_PYTHON = "/opt/venv/bin/python"


def run(data: bytes, _: Path) -> str:
    """Read ``data``."""
    reader = _READERS[data[0] % len(_READERS)] if data else _record
    try:
        return reader(data[1:])
    except (ValueError, LayerError) as error:
        expect(bool(str(error)), "an error without text")
        return f"{reader.__name__} refused"


def _record(data: bytes) -> str:
    found = parse_record(data)
    expect(parse_record(format_record(found.items())) == found, "RECORD does not read as it was written")
    return "record"


def _entry_points(data: bytes) -> str:
    for name, script in entry_point_scripts(data.decode(), _PYTHON).items():
        expect("/" not in name and name not in (".", ".."), f"a script {name!r}")
        expect(script.startswith(b"#!/opt/venv/bin/python\n"), "a script with another first line")
        body = ast.parse(script).body
        expect([type(node).__name__ for node in body] == ["Import", "ImportFrom", "If"], f"{name!r}: {script!r}")
    return "entry points"


def _metadata(data: bytes) -> str:
    found = license_in(data.decode("utf-8", "replace"))
    expect("\n" not in found and bool(found), f"a licence {found!r}")
    return "metadata"


def _script(data: bytes) -> str:
    made = with_interpreter(b"#!python" + data, _PYTHON)
    expect(made.startswith(b"#!/opt/venv/bin/python"), f"{made[:80]!r}")
    return "script"


def _direct_url(data: bytes) -> str:
    expect(b"\n" not in direct_url("demo.whl", data.decode()), "more than one line")
    return "direct url"


def _limits(data: bytes) -> str:
    limits = parse_limits(data.decode())
    expect(limits.unpacked >= 0 and limits.files >= 0 and limits.ratio >= 0, f"{limits}")
    return "limits"


_READERS: tuple[Callable[[bytes], str], ...] = (_record, _entry_points, _metadata, _script, _direct_url, _limits)
_DIGEST = "A" * 43


def seeds() -> list[bytes]:
    """Return a text of each kind, and more of RECORD."""
    url = {"url": "https://example.com/x", "vcs_info": {"vcs": "git", "commit_id": "0" * 40}}
    texts = [
        (0, f'a.py,sha256={_DIGEST},3\n"b,""c.py",sha256={_DIGEST},\nRECORD,,\n'),
        (0, f"a.py,sha512={_DIGEST}{_DIGEST},1\n"),
        (1, "[console_scripts]\nx = demo:main\ny=a.b : C.d [extra]\n[gui_scripts]\nz = a:b ; comment\n"),
        (2, "Metadata-Version: 2.1\nName: x\nLicense-Expression: MIT OR Apache-2.0\n"),
        (2, "Metadata-Version: 2.1\nLicense: Some\n text\nClassifier: License :: OSI Approved :: MIT License\n\nbody"),
        (3, "w -E\r\nprint()\n"),
        (4, json.dumps(url)),
        (5, "unpacked=64GB,ratio=500,files=500000,case_clashes=yes"),
    ]
    return [bytes([kind]) + text.encode() for kind, text in texts]


_change = mutate_lines(
    ",", '"', "\r", "sha256=", "sha384=", "=", _DIGEST, "[console_scripts]", "x = a:b", ":", "[", "]", "/", "..",
    "License: ",    "Classifier: License :: ", " OR ", " AND ", "(", "{", "file:///x", "\u0660", "9" * 5000, "GB",
    "\udcff",
)  # fmt: skip


def _mutate(data: bytes, random: Random) -> bytes:
    return data[:1] + _change(data[1:], random)


TARGET = Target(
    run, seeds, ("mfbazel.layer", "mfbazel.wheel", "mfbazel.lock.wheels.licenses", "csv", "configparser"), _mutate
)
