"""What differs between two locks, package by package, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.requirements import Requirement

from mfbazel.lock.document import Lock
from mfbazel.lock.model import OVERRIDE_SOURCE, RUNTIME_SOURCE
from mfbazel.lock.requirements_txt import parse_annotations

_POLICY = {"constraints": "constraint", "overrides": "override", "indexes": "index of", "build": "built from source:"}
_PLACES = ("file", "line", "source")


@dataclass(frozen=True)
class Change:
    """One difference, and the environments that have it. ``matters``: whether it makes the lock stale."""

    text: str
    environments: tuple[str, ...] = ()
    matters: bool = True

    def __str__(self) -> str:
        return f"{', '.join(self.environments)}: {self.text}" if self.environments else self.text


def changes(old: Lock | None, new: Lock) -> list[Change]:
    """Return the differences; none when the two locks' files are equal."""
    found: dict[str, list[str]] = {}
    for name in sorted({*(old.environments if old else ()), *new.environments}):
        for text in _environment(name, old, new):
            found.setdefault(text, []).append(name)
    result = [Change(text, tuple(names)) for text, names in found.items()]
    if old is not None:
        result += [Change(text) for text in _settings(old, new)]
        if not result and old.files() != new.files():
            result = [_rest(old, new)]
    return result


def _environment(name: str, old: Lock | None, new: Lock) -> Iterator[str]:
    if name not in new.environments:
        yield "removed"
    elif old is None or name not in old.environments:
        count = len(new.versions(name))
        yield f"new, {count} {'package' if count == 1 else 'packages'}"
    else:
        was, now = old.environments[name], new.environments[name]
        if was["python"] != now["python"]:
            yield f"Python {was['python']} → {now['python']}"
        yield from _requirements(was["requirements"], now["requirements"], "requires")
        yield from _requirements(was["runtime"], now["runtime"], "Metaflow requires")
        yield from _policy(was.get("policy", {}), now.get("policy", {}))
        yield from _packages(name, old, new)
        yield from _platforms(was["wheels"], now["wheels"])


def _requirements(was: Sequence[str], now: Sequence[str], verb: str) -> Iterator[str]:
    before, after = (_by_name(texts) for texts in (was, now))
    for name in sorted({*before, *after}):
        if name not in after:
            yield f"{verb} {name} no longer"
        elif name not in before:
            yield f"{verb} {after[name]}, which is new"
        elif before[name] != after[name]:
            yield f"{verb} {after[name]} instead of {before[name]}"


def _by_name(texts: Iterable[str]) -> dict[str, str]:
    """Return the texts of the requirements of each distribution; there are several where markers tell them apart."""
    found: dict[str, list[str]] = {}
    for text in texts:
        found.setdefault(Requirement(text).name, []).append(text)
    return {name: ", ".join(several) for name, several in found.items()}


def _policy(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key, title in _POLICY.items():
        before, after = (_items(policy.get(key, [])) for policy in (was, now))
        yield from (f"policy: {title} {item}, which is new" for item in sorted(after - before))
        yield from (f"policy: {title} {item} no longer" for item in sorted(before - after))


def _items(value: Sequence[str] | Mapping[str, str]) -> set[str]:
    return {f"{name} is {index}" for name, index in value.items()} if isinstance(value, Mapping) else set(value)


def _packages(name: str, old: Lock, new: Lock) -> Iterator[str]:
    before, after = old.versions(name), new.versions(name)
    were, are = _reasons(old, name), _reasons(new, name)
    for package in sorted({*before, *after}):
        if package not in after:
            yield f"- {package} {before[package]} (was {were.get(package, 'locked')})"
        elif package not in before:
            yield f"+ {package} {after[package]} ({are.get(package, 'locked')})"
        elif before[package] != after[package]:
            yield f"{package} {before[package]} → {after[package]} ({are.get(package, 'locked')})"


def _reasons(lock: Lock, name: str) -> dict[str, str]:
    """Say by name why each distribution of the environment ``name`` is there."""
    names = set(lock.versions(name))
    reasons: dict[str, set[str]] = {}
    text = lock.texts.get(lock.environments[name]["file"], "")
    for (package, _version), via in parse_annotations(text).items():
        reasons.setdefault(package, set()).update(via)
    return {package: _reason(via, names) for package, via in reasons.items()}


def _reason(via: set[str], names: set[str]) -> str:
    needed = [*(["Metaflow"] if RUNTIME_SOURCE in via else []), *sorted(via & names)]
    declared = ["declared"] if via - names - {RUNTIME_SOURCE, OVERRIDE_SOURCE} else []
    overridden = ["overridden"] if OVERRIDE_SOURCE in via else []
    return ", ".join([*declared, *overridden, *([f"needed by {', '.join(needed)}"] if needed else [])])


def _platforms(was: Mapping[str, Sequence[str]], now: Mapping[str, Sequence[str]]) -> Iterator[str]:
    yield from (f"no longer locked for {platform}" for platform in sorted(was.keys() - now.keys()))
    yield from (f"locked for {platform}, which is new" for platform in sorted(now.keys() - was.keys()))


def _settings(old: Lock, new: Lock) -> Iterator[str]:
    for key in ("glibc", "resolver"):
        if old.document[key] != new.document[key]:
            yield f"{key} {old.document[key]} → {new.document[key]}"
    if old.budget != new.budget:
        yield f"budget {old.budget} → {new.budget} layers per image"
    yield from sorted({line for platform in old.platforms for line in _other_wheels(platform, old, new)})


def _other_wheels(platform: str, old: Lock, new: Lock) -> Iterator[str]:
    """Say which distributions have another wheel on ``platform``, though the version is the same."""
    before, after = (
        {sha for environment in lock.environments.values() for sha in environment["wheels"].get(platform, ())}
        for lock in (old, new)
    )
    versions = {(old.document["wheels"][sha]["name"], old.document["wheels"][sha]["version"]) for sha in before}
    for sha in after - before:
        wheel = new.document["wheels"][sha]
        if (wheel["name"], wheel["version"]) in versions:
            yield f"another wheel of the same version: {wheel.get('file') or sha}"


def _rest(old: Lock, new: Lock) -> Change:
    """Say what differs where all packages are the same."""
    was, now = (lock.document["flow"] or {} for lock in (old, new))
    if was != now:
        if _without_places(was) == _without_places(now):
            return Change("flow.json: lines of the source moved, which makes no lock stale", matters=False)
        return Change("flow.json: what it says of the flow's steps")
    if old.document != new.document:
        return Change("flow.json: what it says of wheels or layers")
    names = [name for name, text in new.files().items() if old.files().get(name) != text]
    return Change(f"the text of {', '.join(sorted(names))}")


def _without_places(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_places(item) for key, item in value.items() if key not in _PLACES}
    return [_without_places(item) for item in value] if isinstance(value, list) else value
