"""What a policy says of a base, a registry, an index, and the packages of a lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mfbazel.policy.errors import PolicyError
from mfbazel.policy.licences import accepts, takes_licence
from mfbazel.policy.patterns import PackagePattern, short_label, takes_label, takes_location
from mfbazel.policy.rules import FILE, Rules

PUBLIC = "public"
"""What the entries call the index that pip and uv ask when nobody configures one."""

_SHOWN = 5
"""So many entries are shown of a list that lacks something."""


@dataclass(frozen=True)
class Violation:
    """Something that is not allowed. ``what`` it is and ``rule``, the table, key and entry that say so."""

    what: str
    rule: str

    def __str__(self) -> str:
        """Return one line for a person."""
        return f"{self.what}: {self.rule}"


def refuse(rules: Rules, where: str, violations: Sequence[Violation], otherwise: str = "Choose something else") -> None:
    """Do nothing when there are no ``violations``.

    Args:
        rules: of the policy; they name whom to ask.
        where: begins the message.
        violations: what is not allowed.
        otherwise: what a person can do.

    Raises:
        PolicyError: there are.
    """
    if not violations:
        return
    lines = "\n".join(f"  {violation}" for violation in dict.fromkeys(violations))
    ask = f"ask {rules.contact}" if rules.contact else f"have the rule in {FILE} changed"
    raise PolicyError(f"{where} that {FILE} does not allow:\n{lines}\n{otherwise}, or {ask}.")


def check_registry(rules: Rules, what: str, repository: str) -> list[Violation]:
    """Check ``repository``, ``host[:port]/path`` with or without tag and digest, which is that of ``what``."""
    place = repository.partition("@")[0]
    return _check(rules, "registries", f"{what} {repository}", lambda entry: takes_location(entry, place))


def check_index(rules: Rules, url: str | None) -> list[Violation]:
    """Check the index ``url`` (without credentials), ``None`` for the public one."""
    what = f"the index {url}" if url else "the public index, which is asked when none is configured,"
    return _check(rules, "indexes", what, lambda entry: takes_location(entry, url) if url else entry == PUBLIC)


def check_base(rules: Rules, label: str, digests: Iterable[str]) -> list[Violation]:
    """Check the base image of the target ``label`` that has one of ``digests`` (of its index, and of its image)."""
    known, name = list(digests), short_label(label)

    def takes(entry: str) -> bool:
        return entry in known if entry.startswith("sha256:") else takes_label(entry, name)

    return _check(rules, "bases", f"the base image {name} ({', '.join(known)})", takes)


def check_packages(rules: Rules, lock: Mapping[str, Any]) -> list[Violation]:
    """Check the packages of all steps of ``lock``, the content of ``flow.json``, and their licences.

    What launches a flow, and what builds wheels, is checked as well: it runs on people's machines.
    """
    if not rules.concern("packages", "licences"):
        return []
    return [violation for key, steps in _used(lock).items() for violation in _check_wheel(rules, lock, key, steps)]


def _used(lock: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the environments that have each wheel, by its key."""
    used: dict[str, list[str]] = {}
    for name, environment in sorted(lock["environments"].items()):
        for keys in environment["wheels"].values():
            for key in keys:
                if name not in (names := used.setdefault(key, [])):
                    names.append(name)
    return used


def _check_wheel(rules: Rules, lock: Mapping[str, Any], key: str, environments: Sequence[str]) -> Iterator[Violation]:
    wheel = lock["wheels"][key]
    name, version = wheel["name"], wheel["version"]
    who = ", ".join("the launcher" if item == "_launcher" else item.removeprefix("_build.") for item in environments)
    what = f"{name} {version} ({who})"
    yield from _check(rules, "packages", what, lambda entry: PackagePattern.parse(entry).takes(name, version))
    exempt = (PackagePattern.parse(entry) for entry in rules.exempt.get("licences", ()))
    if not rules.concern("licences") or any(pattern.takes(name, version) for pattern in exempt):
        return
    licence = wheel.get("license", "unknown")
    refused, allowed = rules.refused.get("licences", ()), rules.allowed.get("licences")

    def one(single: str) -> bool:
        return not _first(refused, single) and (allowed is None or bool(_first(allowed, single)))

    if not accepts(licence, one):
        yield Violation(f"the licence of {what}, {licence}", _licence_rule(refused, licence))


def _licence_rule(refused: Sequence[str], licence: str) -> str:
    found: list[str] = []

    def note(single: str) -> bool:
        found.extend(filter(None, [_first(refused, single)]))
        return False

    accepts(licence, note)
    return _refused("licences", found[0]) if found else f"not in [allowed] licences of {FILE}"


def _first(entries: Sequence[str], licence: str) -> str:
    return next((entry for entry in entries if takes_licence(entry, licence)), "")


def _check(rules: Rules, key: str, what: str, takes: Callable[[str], bool]) -> list[Violation]:
    """Check what ``takes`` compares with an entry of ``key``."""
    for entry in rules.refused.get(key, ()):
        if takes(entry):
            return [Violation(what, _refused(key, entry))]
    allowed = rules.allowed.get(key)
    if allowed is None or any(takes(entry) for entry in allowed):
        return []
    more = f", … ({len(allowed)} in all)" if len(allowed) > _SHOWN else ""
    shown = ", ".join(allowed[:_SHOWN]) or "nothing"
    return [Violation(what, f"not in [allowed] {key} of {FILE}, which has {shown}{more}")]


def _refused(key: str, entry: str) -> str:
    return f"refused by [refused] {key} of {FILE}, {entry!r}"
