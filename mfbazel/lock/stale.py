"""Whether a lock still says what the flow says: no network, no resolver, only comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from packaging.requirements import Requirement

from mfbazel.lock.document import Lock
from mfbazel.lock.model import Environment, Settings
from mfbazel.lock.origin import BUILD_PREFIX, is_label
from mfbazel.lock.requirements_txt import PinnedLine, foreign_lines, hashes_of, parse_locked
from mfbazel.lock.sources.first_party import differences

_COMPARED = ("type", "next", "disabled", "python", "platform", "gpu")
"""The properties of a step, beside its requirements, that a lock records and images or the launch depend on."""

_POLICY = {
    "constraints": "{} is a constraint",
    "overrides": "{} is an override",
    "indexes": "{} is an index pin",
    "build": "{} is built from source",
}


def check_flow(
    flow: Mapping[str, Any], environments: Sequence[Environment], lock: Lock, settings: Settings
) -> list[str]:
    """Return one line per difference between the flow as it is now (``flow``, ``environments``) and ``lock``."""
    problems = [*_check_version(flow, lock), *_check_settings(lock, settings)]
    recorded = lock.document["flow"] or {}
    if recorded.get("name") != flow["name"]:
        problems.append(f"the flow is {flow['name']}, locked is {recorded.get('name')}")
    steps = {step["name"]: step for step in recorded.get("steps", [])}
    problems += [f"step '{name}' is locked, but not in the flow" for name in steps if name not in _names(flow)]
    for step in flow["steps"]:
        if step["name"] not in steps:
            problems.append(f"step '{step['name']}' is not locked")
        else:
            problems += _check_step(step, steps[step["name"]])
    for environment in environments:
        if environment.name not in lock.environments:
            if environment.name not in _names(flow):
                problems.append(f"environment '{environment.name}' is not locked")
            continue
        problems += _check_environment(environment, lock.environments[environment.name], settings)
        problems += _check_policy(environment, lock, settings)
    return [*problems, *_check_sources(lock, settings)]


def _check_sources(lock: Lock, settings: Settings) -> list[str]:
    """Compare what no index has: build requirements with the policy, wheels of this workspace with what they are."""
    problems = []
    keys: dict[str, None] = {}
    for name, entry in lock.environments.items():
        if name.startswith(BUILD_PREFIX):
            problems += _check_policy(Environment(name, entry["python"], ()), lock, settings)
        else:
            keys.update((key, None) for found in entry["wheels"].values() for key in found)
    return problems + [line for key in keys for line in differences(lock.wheel(key), settings.wheels)]


def _names(flow: Mapping[str, Any]) -> set[str]:
    return {step["name"] for step in flow["steps"]}


def _check_version(flow: Mapping[str, Any], lock: Lock) -> list[str]:
    """Say what a lock of another version of mfbazel lacks."""
    problems = []
    recorded = lock.document["flow"] or {}
    if recorded and recorded.get("schema") != flow["schema"]:
        problems.append(
            f"another version of mfbazel made the lock: it describes the flow by schema {recorded.get('schema')}, "
            f"this one by {flow['schema']}"
        )
    for key, what in (("modules", "which modules they hold"), ("license", "their licence")):
        bare = sum(key not in wheel for wheel in lock.document["wheels"].values())
        if bare:
            problems.append(f"an older mfbazel made the lock: {bare} of its wheels do not say {what}")
    return problems


def _check_settings(lock: Lock, settings: Settings) -> list[str]:
    problems = []
    for name, now in (("glibc", settings.glibc), ("resolver", settings.resolver)):
        if lock.document.get(name) != now:
            problems.append(f"attribute `{name}` is {now}, locked is {lock.document.get(name)}")
    if lock.budget != settings.budget:
        problems.append(f"attribute `budget` is {settings.budget}, the layers are planned for {lock.budget} per image")
    platforms = sorted(map(str, settings.platforms))
    if sorted(lock.document["layers"]) != platforms:
        locked = ", ".join(sorted(lock.document["layers"]))
        problems.append(f"attribute `platforms` is {', '.join(platforms)}, locked is {locked}")
    return problems


def _check_step(now: Mapping[str, Any], then: Mapping[str, Any]) -> list[str]:
    who = f"step '{now['name']}'"
    return [
        f"{who}: `{key}` is {_shown(now[key])}, locked is {_shown(then.get(key))}"
        for key in _COMPARED
        if now[key] != then.get(key)
    ]


def _check_policy(now: Environment, lock: Lock, settings: Settings) -> list[str]:
    """Compare what the repository's policy says of the locked distributions with what it said."""
    recorded = lock.environments[now.name].get("policy", {})
    current = settings.policy.concerning(now, lock.versions(now.name))
    where = {item.text: item.where for item in (*settings.policy.constraints, *settings.policy.overrides)}
    problems = []
    for key, title in _POLICY.items():
        for item in _items(current.get(key)) - _items(recorded.get(key)):
            place = where.get(item, "mfbazel.toml" if key == "indexes" else "attribute `build` or mfbazel.toml")
            problems.append(f"{_who(now.name)}: {title.format(item)} ({place}), but not locked so")
        for item in _items(recorded.get(key)) - _items(current.get(key)):
            problems.append(f"{_who(now.name)}: {title.format(item)} when it was locked, but not any more")
    return sorted(problems)


def _items(value: Mapping[str, str] | Sequence[str] | None) -> set[str]:
    if isinstance(value, Mapping):
        return {f"{name} from '{index}'" for name, index in value.items()}
    return set(value or ())


def _who(environment: str) -> str:
    if environment.startswith(BUILD_PREFIX):
        return f"what builds {environment.removeprefix(BUILD_PREFIX)}"
    return "the launcher" if environment.startswith("_") else f"step '{environment}'"


def _check_environment(now: Environment, then: Mapping[str, Any], settings: Settings) -> list[str]:
    who = _who(now.name)
    problems = []
    if then["python"] != now.python:
        problems.append(f"{who}: Python is {now.python}, locked is {then['python']}")
    where = {item.text: item.where for item in (*now.wanted, *now.runtime)}
    for key, texts in (("requirements", now.requirements), ("runtime", now.runtime_requirements)):
        problems += [f"{who}: {line}" for line in _differences(texts, then.get(key, []), where)]
    missing = [str(platform) for platform in settings.platforms if str(platform) not in then["wheels"]]
    return problems + [f"{who}: not locked for {platform}" for platform in missing]


def _differences(now: Sequence[str], then: Sequence[str], where: Mapping[str, str]) -> list[str]:
    """Compare requirements by package."""
    current = {Requirement(text).name: text for text in now}
    locked = {Requirement(text).name: text for text in then}
    lines = [f"{locked[name]} is locked, but no longer required" for name in sorted(set(locked) - set(current))]
    for name, text in sorted(current.items()):
        if name not in locked:
            lines.append(f"{text} is required at {where[text]}, but not locked")
        elif locked[name] != text:
            lines.append(f"{text} is required at {where[text]}, locked is {locked[name]}")
    return lines


def check_lock(lock: Lock) -> list[str]:
    """Return one line per contradiction between the requirements files and ``flow.json``."""
    return [problem for name in sorted(lock.environments) for problem in check_environment_file(lock, name)]


def check_environment_file(lock: Lock, name: str) -> list[str]:
    """Return one line per contradiction between ``flow.json`` and the requirements file of the environment ``name``."""
    environment = lock.environments[name]
    file = environment["file"]
    if file not in lock.texts:
        return [f"'{name}': {file} is missing"]
    expected = _expected(environment, lock)
    actual = {(line.name, line.version): line for line in parse_locked(lock.texts[file])}
    foreign = foreign_lines(lock.texts[file])
    if foreign:
        number, line = foreign[0]
        return [f"'{name}': {file}:{number}: '{line}' is neither a pin nor a hash (left by a merge?)"]
    differing = [key for key in sorted(set(expected) | set(actual)) if expected.get(key) != actual.get(key)]
    return [f"'{name}': {file} and flow.json differ about {key[0]} {key[1]}" for key in differing]


def _expected(environment: Mapping[str, Any], lock: Lock) -> dict[tuple[str, str], PinnedLine]:
    hashes: dict[tuple[str, str], set[str]] = {}
    for shas in environment["wheels"].values():
        for sha in shas:
            if is_label(sha):
                continue
            wheel = lock.wheel(sha)
            hashes.setdefault((wheel.name, wheel.version), set()).update(hashes_of(wheel))
    return {key: PinnedLine(*key, tuple(sorted(values))) for key, values in hashes.items()}


def _shown(value: object) -> str:
    return "not declared" if value is None else str(value)
