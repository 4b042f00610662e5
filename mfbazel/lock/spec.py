"""Environments that belong to no flow, from a JSON file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfbazel.lock.errors import LockError
from mfbazel.lock.model import Environment, parse_python, parse_wanted

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Spec:
    """The content of a spec file: environments and the options that it gives itself."""

    environments: tuple[Environment, ...]
    options: Mapping[str, Any]


def read_spec(path: Path) -> Spec:
    """Read the file ``path``::

        {"environments": {"tools": {"python": "3.14", "requirements": ["zstandard"]}},
         "platforms": ["linux/amd64"], "glibc": "2.28", "resolver": "uv", "budget": 24}

    An environment may name others under ``include``, whose requirements it has as well. With ``"dependencies": false``
    it holds the wheels that it names and nothing that these need: wheels that are read as data, not run.
    ``platforms``, ``glibc``, ``resolver`` and ``budget`` are optional.

    Raises:
        LockError: the file cannot be read, or says something else.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LockError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise LockError(f"{path} is not JSON: {error}") from error
    entries = table.get("environments") if isinstance(table, dict) else None
    if not isinstance(entries, dict) or not entries:
        raise LockError(f"{path}: `environments` is missing or empty; it maps names to `python` and `requirements`")
    unknown = sorted(set(table) - {"environments", "platforms", "glibc", "resolver", "budget"})
    if unknown:
        raise LockError(f"{path}: unknown key `{unknown[0]}`")
    if type(table.get("budget", 0)) is not int:
        raise LockError(f"{path}: `budget` is not a number: {table['budget']!r}")
    environments = tuple(_environment(name, entries, path) for name in sorted(entries))
    return Spec(environments, {key: value for key, value in table.items() if key != "environments"})


def _environment(name: str, entries: Mapping[str, Any], path: Path) -> Environment:
    where = f"{path.name}: environment '{name}'"
    if not _NAME.fullmatch(name):
        raise LockError(f"{where}: a name consists of letters, digits, '-', '_' and '.'")
    entry = entries[name]
    if not isinstance(entry, dict) or not isinstance(entry.get("python"), str):
        raise LockError(f'{where}: `python` is missing, for example "3.14"')
    unknown = sorted(set(entry) - {"python", "requirements", "include", "dependencies"})
    if unknown:
        raise LockError(f"{where}: unknown key `{unknown[0]}`")
    dependencies = entry.get("dependencies", True)
    if not isinstance(dependencies, bool):
        raise LockError(f"{where}: `dependencies` is neither true nor false")
    texts = _requirements(name, entries, path, ())
    wanted = tuple(parse_wanted(text, where) for text in sorted(set(texts)))
    return Environment(name, parse_python(entry["python"], where), wanted, source=path.name, dependencies=dependencies)


def _requirements(name: str, entries: Mapping[str, Any], path: Path, chain: tuple[str, ...]) -> list[str]:
    where = f"{path.name}: environment '{(*chain, name)[0]}'"
    if name not in entries:
        raise LockError(f"{where}: `include` names '{name}', which is not an environment of this file")
    if name in chain:
        raise LockError(f"{where}: `include` goes in a circle: {' → '.join([*chain, name])}")
    texts = []
    for key in ("requirements", "include"):
        value = entries[name].get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise LockError(f"{where}: `{key}` is not a list of strings")
        texts.append(value)
    included = [text for other in texts[1] for text in _requirements(other, entries, path, (*chain, name))]
    return [*texts[0], *included]
