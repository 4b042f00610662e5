"""``mfbazel.toml``: what all flows of a repository share when they are locked.

    [lock]
    constraints = ["third_party/constraints.txt"]  # files in pip's format: limits for what is required anyway
    overrides = ["third_party/overrides.txt"]      # the same format: replace what distributions say
    build = ["some-distribution"]                  # may be built from source, which runs its code
    platforms = ["linux/amd64", "linux/arm64"]     # of flows that do not say, as are glibc, resolver and budget

    [[lock.index]]                                 # these distributions come from there, and nothing else does
    name = "torch-cuda"
    url = "https://…/${CHANNEL}"                   # variables of the environment; no credentials
    packages = ["torch", "nvidia-*"]
    gpu = true                                     # only for steps that request a GPU; false: only for the others

What is allowed, the other tables, is read by :mod:`mfbazel.policy`.
Files are named from the directory of ``mfbazel.toml``, the workspace's root.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from mfbazel.lock.errors import LockError
from mfbazel.lock.model import RESOLVERS, UV_GLIBCS, Index, Platform, Policy, Wanted, parse_wanted
from mfbazel.plan import BUDGET, PlanError, check_budget
from mfbazel.policy import FILE, TABLES, parse_rules

_KEYS = {
    "constraints": list,
    "overrides": list,
    "build": list,
    "platforms": list,
    "glibc": str,
    "resolver": str,
    "budget": int,
    "index": list,
}
_DEFAULTS = ("platforms", "glibc", "resolver", "budget")
_INDEX_KEYS = {"name": str, "url": str, "packages": list, "gpu": bool}
_INDEX_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?")
_COMMENT = re.compile(r"(^|\s)#.*$")


def read_policy(path: Path | None) -> Policy:
    """Read the policy ``path``; without one, nothing is shared.

    Raises:
        LockError: the file, or one that it names, cannot be read or says something else.
        PolicyError: what is allowed (:mod:`mfbazel.policy`) is said wrongly.
    """
    if path is None:
        return Policy()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LockError(f"cannot read the policy {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LockError(f"{FILE}: not TOML: {error}") from error
    for name in table.keys() - {"lock", *TABLES}:
        raise LockError(f"{FILE}: unknown table or key `{name}`; there are {', '.join(('lock', *TABLES))}")
    lock = table.get("lock", {})
    if not isinstance(lock, dict):
        raise LockError(f"{FILE}: `lock` is not a table: write [lock]")
    _check(lock, _KEYS, "[lock]")
    _check_defaults(lock)
    return Policy(
        constraints=tuple(_requirements(lock, "constraints", path.parent)),
        overrides=tuple(_requirements(lock, "overrides", path.parent)),
        indexes=_indexes(lock.get("index", [])),
        build=tuple(sorted(canonicalize_name(name) for name in lock.get("build", []))),
        defaults={key: lock[key] for key in _DEFAULTS if key in lock},
        rules=parse_rules(table),
    )


def _check(table: Mapping[str, Any], keys: Mapping[str, type], where: str) -> None:
    for key, value in table.items():
        if key not in keys:
            raise LockError(f"{FILE}: {where}: unknown key `{key}`; there are {', '.join(keys)}")
        if not isinstance(value, keys[key]) or (isinstance(value, bool) and keys[key] is not bool):
            raise LockError(f"{FILE}: {where}: `{key}` is not {_kind(keys[key])}: {value!r}")
        if key != "index" and isinstance(value, list) and not all(isinstance(item, str) for item in value):
            raise LockError(f"{FILE}: {where}: `{key}` is not a list of strings: {value!r}")


def _check_defaults(lock: Mapping[str, Any]) -> None:
    try:
        for platform in map(Platform.parse, lock.get("platforms", [])):
            platform.for_uv(lock.get("glibc", UV_GLIBCS[0]))
        check_budget(lock.get("budget", BUDGET))
    except (LockError, PlanError) as error:
        raise LockError(f"{FILE}: [lock]: {str(error).removeprefix('attribute ')}") from error
    if lock.get("glibc", UV_GLIBCS[0]) not in UV_GLIBCS:
        raise LockError(f"{FILE}: [lock]: `glibc`: '{lock['glibc']}' is unknown; choose from {', '.join(UV_GLIBCS)}")
    if lock.get("resolver", RESOLVERS[0]) not in RESOLVERS:
        raise LockError(
            f"{FILE}: [lock]: `resolver`: '{lock['resolver']}' is unknown; choose from {', '.join(RESOLVERS)}"
        )


def _kind(kind: type) -> str:
    return {list: "a list", str: "a string", bool: "true or false", int: "a number"}[kind]


def _requirements(lock: Mapping[str, Any], key: str, directory: Path) -> Iterator[Wanted]:
    for file in lock.get(key, []):
        if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
            raise LockError(f"{FILE}: [lock]: `{key}` names '{file}', which is not a path below the workspace's root")
        try:
            text = (directory / file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise LockError(f"{FILE}: [lock]: `{key}` names {file}, which cannot be read: {reason}") from error
        for number, line in enumerate(text.splitlines(), 1):
            content = _COMMENT.sub("", line).strip()
            if content:
                yield _requirement(content, f"{file}:{number}")


def _requirement(text: str, where: str) -> Wanted:
    if text.startswith("-") or text.endswith("\\"):
        raise LockError(
            f"{where}: '{text}' is no requirement: the file holds one PEP 508 requirement per line, no options"
        )
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise LockError(f"{where}: '{text}' is not a requirement: {str(error).splitlines()[0]}") from error
    if requirement.url:
        raise LockError(f"{where}: '{text}' names a URL: a constraint or an override names versions")
    if requirement.extras:
        raise LockError(f"{where}: '{text}' names extras, which neither a constraint nor an override can have")
    return parse_wanted(text, where)


def _indexes(tables: list[Any]) -> tuple[Index, ...]:
    indexes: dict[str, Index] = {}
    for number, table in enumerate(tables, 1):
        index = _index(table, f"[[lock.index]] number {number}")
        if index.name in indexes:
            raise LockError(f"{FILE}: {index.where}: the name is taken by another one")
        indexes[index.name] = index
    return tuple(indexes.values())


def _index(table: Any, where: str) -> Index:
    if not isinstance(table, dict):
        raise LockError(f"{FILE}: {where} is not a table")
    _check(table, _INDEX_KEYS, where)
    for key in ("name", "url", "packages"):
        if not table.get(key):
            raise LockError(f"{FILE}: {where}: `{key}` is missing")
    name, url = table["name"], table["url"]
    where = f"[[lock.index]] '{name}'"
    if not _INDEX_NAME.fullmatch(name):
        raise LockError(f"{FILE}: {where}: `name` consists of letters, digits, '-' and '_'")
    if "@" in urlsplit(url).netloc:
        raise LockError(
            f"{FILE}: {where}: `url` holds credentials, which would be checked in: change them, since they are known "
            f"now, and give them by netrc, keyring or UV_INDEX_{re.sub('[^A-Z0-9]', '_', name.upper())}_PASSWORD"
        )
    packages = tuple(pattern.lower().replace("_", "-").replace(".", "-") for pattern in table["packages"])
    return Index(name, url, packages, table.get("gpu"), where)
