"""The tables ``[allowed]``, ``[refused]`` and ``[exempt]`` of ``mfbazel.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mfbazel.policy.errors import PolicyError
from mfbazel.policy.patterns import PackagePattern, parse_digest

FILE = "mfbazel.toml"
"""The policy of a repository, in its root directory."""

KEYS = ("bases", "registries", "indexes", "licences", "packages")
"""What can be allowed and refused."""

EXEMPT = ("licences", "files")
"""What somebody can have looked at: licences of packages, and what an audit finds in layers."""

TABLES = ("allowed", "refused", "exempt", "contact", "registries", "signing")
"""The tables and keys of ``mfbazel.toml`` that this package reads."""


@dataclass(frozen=True)
class Rules:
    """What is allowed.

    Attributes:
        allowed: entries by key; a key that is missing allows everything.
        refused: entries by key.
        exempt: entries by key: ``licences``, names of packages; ``files``, paths in images.
        contact: whom to ask, empty when nobody is named.
    """

    allowed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    refused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    exempt: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    contact: str = ""

    def concern(self, *keys: str) -> bool:
        """Say whether anything is said of one of ``keys``."""
        return any(key in table for key in keys for table in (self.allowed, self.refused))

    def only(self, *keys: str) -> dict[str, Any]:
        """Return what is said of ``keys``, as :func:`parse_rules` reads it; empty when nothing is."""
        if not self.concern(*keys):
            return {}
        tables = (("allowed", self.allowed), ("refused", self.refused), ("exempt", self.exempt))
        said = {name: {key: list(table[key]) for key in keys if key in table} for name, table in tables}
        return {
            **{name: table for name, table in said.items() if table},
            **({"contact": self.contact} if self.contact else {}),
        }


def workspace_rules(workspace: Path) -> Rules:
    """Return the rules of the workspace; without a policy, everything is allowed.

    Raises:
        PolicyError: the policy cannot be read, or says something else.
    """
    path = workspace / FILE
    return read_rules(path) if path.is_file() else Rules()


def workspace_registries(workspace: Path) -> dict[str, str]:
    """Return the table ``[registries]`` of the workspace's policy: the name of a type by host, or pattern of hosts.

    Raises:
        PolicyError: the policy cannot be read, or the table says something else.
    """
    path = workspace / FILE
    table = read_document(path).get("registries", {}) if path.is_file() else {}
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise PolicyError(
            f'{FILE}: [registries] is not a table of types by host; write "registry.example.com" = "harbor"'
        )
    return dict(table)


def read_rules(path: Path | None) -> Rules:
    """Read the policy ``path``; without one, everything is allowed.

    Raises:
        PolicyError: the file cannot be read, is not TOML, or one of the tables says something else.
    """
    return Rules() if path is None else parse_rules(read_document(path))


def read_document(path: Path) -> dict[str, Any]:
    """Return the content of the policy ``path``.

    Raises:
        PolicyError: the file cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PolicyError(f"cannot read the policy {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PolicyError(f"{FILE}: not TOML: {error}") from error


def parse_rules(document: Mapping[str, Any]) -> Rules:
    """Return the rules of ``document``, the content of a policy; its other tables are others' concern.

    Raises:
        PolicyError: a table has an unknown key, or an entry is malformed.
    """
    contact = document.get("contact", "")
    if not isinstance(contact, str):
        raise PolicyError(f"{FILE}: `contact` is not a string: {contact!r}")
    return Rules(
        allowed=_table(document, "allowed", KEYS),
        refused=_table(document, "refused", KEYS),
        exempt=_table(document, "exempt", EXEMPT),
        contact=contact,
    )


def _table(document: Mapping[str, Any], name: str, keys: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise PolicyError(f"{FILE}: `{name}` is not a table: write [{name}]")
    return {key: _entries(name, key, value, keys) for key, value in table.items()}


def _entries(table: str, key: str, value: Any, keys: tuple[str, ...]) -> tuple[str, ...]:
    where = f"{FILE}: [{table}]"
    if key not in keys:
        raise PolicyError(f"{where}: unknown key `{key}`; there are {', '.join(keys)}")
    if not isinstance(value, list) or not all(isinstance(entry, str) and entry.strip() for entry in value):
        raise PolicyError(f"{where}: `{key}` is not a list of strings that say something: {value!r}")
    for entry in value:
        if problem := _problem(table, key, entry):
            raise PolicyError(f"{where}: `{key}`: {problem}")
    return tuple(value)


def _problem(table: str, key: str, entry: str) -> str:
    """Say what is wrong with an entry; empty when nothing is."""
    try:
        if key == "packages" or (table == "exempt" and key == "licences"):
            PackagePattern.parse(entry)
        if key == "bases" and entry.startswith("sha256:"):
            parse_digest(entry)
    except ValueError as error:
        return str(error)
    if key == "registries" and "://" in entry:
        return f"'{entry}' is a URL: write the host and the path alone"
    if key in ("registries", "indexes") and "@" in entry.partition("://")[2].partition("/")[0]:
        return "an entry holds credentials, which would be checked in: take them out, and change them"
    return ""
