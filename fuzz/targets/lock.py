"""A lock directory or a policy is read, or refused with an error for the user.

An input's first byte says what the rest is: ``flow.json``, a requirements file, ``mfbazel.toml``, or ``flow.json`` that
is audited.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from random import Random

from fuzz.targets.target import Target, expect, mutate_lines
from mfbazel.audit.report import packages_of
from mfbazel.errors import MfbazelError
from mfbazel.lock.document import read
from mfbazel.lock.requirements_txt import parse_annotations, parse_locked
from mfbazel.policy import parse_rules

_COMMAND = "bazel run //flows:my_flow.lock"


def run(data: bytes, directory: Path) -> str:
    """Read ``data``."""
    reader = _READERS[data[0] % len(_READERS)] if data else _flow
    try:
        return reader(data[1:], directory)
    except MfbazelError as error:
        expect(bool(str(error)), "an error without text")
        return f"{reader.__name__} refused"


def _flow(data: bytes, directory: Path) -> str:
    directory.joinpath("flow.json").write_bytes(data)
    directory.joinpath("train.txt").write_text("a==1\n", encoding="utf-8")
    lock = read(directory, _COMMAND)
    expect(lock is not None, "no lock")
    for name in lock.texts if lock else ():
        expect(directory.resolve() in (directory / name).resolve().parents, f"{name!r} is read")
    return "lock"


def _requirements(data: bytes, _: Path) -> str:
    text = data.decode("utf-8", "replace")
    for line in parse_locked(text):
        expect(bool(line.name and line.version), f"{line}")
    parse_annotations(text)
    return "requirements"


def _policy(data: bytes, _: Path) -> str:
    try:
        document = tomllib.loads(data.decode())
    except (ValueError, RecursionError):  # what mfbazel does not read itself
        return "not TOML"
    parse_rules(document)
    return "policy"


def _audit(data: bytes, directory: Path) -> str:
    directory.joinpath("flow.json").write_bytes(data)
    lock = read(directory, _COMMAND)
    if lock:
        packages_of(lock)
    return "audit"


_READERS: tuple[Callable[[bytes, Path], str], ...] = (_flow, _requirements, _policy, _audit)
_SHA = "0123456789abcdef" * 4


def seeds() -> list[bytes]:
    """Return a small lock, its requirements file, and a policy."""
    wheel = {
        "name": "a",
        "version": "1",
        "file": "a-1-py3-none-any.whl",
        "size": 10,
        "license": "MIT",
        "modules": ["a"],
    }
    environment = {
        "python": "3.14",
        "requirements": ["a==1"],
        "runtime": [],
        "file": "train.txt",
        "wheels": {"linux/amd64": [_SHA]},
    }
    lock = {
        "schema": 1,
        "flow": {"name": "F", "steps": [{"name": "train"}]},
        "resolver": "uv",
        "glibc": "2.28",
        "environments": {"train": environment},
        "wheels": {_SHA: wheel},
        "layers": {"linux/amd64": [{"name": "a", "wheels": [_SHA]}]},
    }
    text = json.dumps(lock, indent=1)
    policy = 'contact = "x"\n[allowed]\nlicences = ["MIT"]\npackages = ["a>=1"]\n[refused]\nbases = ["sha256:0"]\n'
    return [
        b"\0" + text.encode(),
        b"\0" + text.replace('"train.txt"', '"/proc/self/status"').encode(),
        b"\3" + text.encode(),
        f"\1a==1 \\\n    --hash=sha256:{_SHA}\n    # via b\nb[x]==2 ; python_version < '4'\n".encode(),
        b"\2" + policy.encode(),
    ]


_change = mutate_lines(
    "{", "}", "[", "]", ",", ":", "null", "1", '"', '"a"', '"../x"', '"/etc/passwd"', '"\\u0000"', '""', "-1",
    "1e999",
    "true", '"train.txt"', "==", " \\", "--hash=sha256:", "# via ", "exempt", '"x" * ', "[refused]", "[exempt]", "*",
    "\udcff",
)  # fmt: skip


def _mutate(data: bytes, random: Random) -> bytes:
    return data[:1] + _change(data[1:], random)


TARGET = Target(run, seeds, ("mfbazel.audit", "mfbazel.lock", "mfbazel.policy"), _mutate)
