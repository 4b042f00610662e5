"""Imports against packages: which import no declaration accounts for, and what to add where the user wants that.

Everything here is decided from a flow and a lock (in memory or on disk): no network, no wheel.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mfbazel.lock.distributions import UNLISTED, Answer, Names, Provided, import_names
from mfbazel.lock.document import Lock
from mfbazel.lock.errors import LockError
from mfbazel.lock.model import Environment, LockedEnvironment, Pin, Wanted
from mfbazel.lock.requirements_txt import parse_resolved
from mfbazel.lock.resolve import Locker

FIRST_PARTY = "Code of your own is found beside the flow and in the import roots of attribute `deps`."

_ROUNDS = 5
_SHOWN = 6
_IMPORT = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


@dataclass(frozen=True)
class Packages:
    """What is locked for one step, whatever the platform.

    Attributes:
        versions: by distribution.
        modules: of the wheels by distribution, ``None`` where a lock of an older version does not say.
        needed_by: the distributions that need it, by distribution.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    modules: Mapping[str, frozenset[str] | None] = field(default_factory=dict)
    needed_by: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of_lock(cls, lock: Lock, name: str) -> Packages:
        """Read the environment ``name`` of ``lock``; nothing where it is not locked."""
        environment = lock.environments.get(name)
        if environment is None:
            return cls()
        wheels = [lock.document["wheels"][sha] for shas in environment["wheels"].values() for sha in shas]
        pins = parse_resolved(lock.texts.get(environment["file"], ""))
        return cls._of(((item["name"], item["version"], item.get("modules")) for item in wheels), pins.values())

    @classmethod
    def of_resolved(cls, locked: LockedEnvironment) -> Packages:
        """Read an environment that has just been resolved."""
        wheels = [wheel for found in locked.wheels.values() for wheel in found]
        pins = (pin for found in locked.pins.values() for pin in found.values())
        return cls._of(((item.name, item.version, item.modules) for item in wheels), pins)

    @classmethod
    def _of(cls, wheels: Iterable[tuple[str, str, Collection[str] | None]], pins: Iterable[Pin]) -> Packages:
        versions: dict[str, str] = {}
        modules: dict[str, frozenset[str] | None] = {}
        for name, version, found in wheels:
            versions[name] = version
            known = modules.get(name, frozenset())
            modules[name] = None if found is None or known is None else known | set(found)
        needed: dict[str, frozenset[str]] = {}
        for pin in pins:
            parents = (canonicalize_name(via.partition("[")[0]) for via in pin.via)
            needed[pin.name] = needed.get(pin.name, frozenset()) | {name for name in parents if name in versions}
        return cls(versions, modules, needed)

    @cached_property
    def provided(self) -> Provided:
        """The modules of the wheels."""
        provided = Provided()
        for name, modules in self.modules.items():
            provided.add(name, modules)
        return provided

    def reached(self, roots: Collection[str]) -> set[str]:
        """Return the distributions that are there because of ``roots``, those included."""
        found = set(roots) & set(self.versions)
        growing = True
        while growing:
            more = {name for name, parents in self.needed_by.items() if name not in found and parents & found}
            found |= more
            growing = bool(more)
        return found

    def because_of(self, roots: Collection[str]) -> Packages:
        """Return the part that is there because of ``roots``."""
        names = self.reached(roots)
        return Packages(
            {name: version for name, version in self.versions.items() if name in names},
            {name: modules for name, modules in self.modules.items() if name in names},
            {name: parents & names for name, parents in self.needed_by.items() if name in names},
        )


@dataclass(frozen=True)
class Verdict:
    """What an import means for a step.

    ``state``: ``declared``, ``exempt`` (by the user), ``missing``, ``transitive`` (there only because the distributions
    ``needed_by`` need it) or ``ambiguous``.
    """

    answer: Answer
    state: str
    needed_by: tuple[str, ...] = ()


def judge(name: str, declared: Collection[str], packages: Packages, names: Names) -> Verdict:
    """Say what the import ``name`` means for a step that declares the distributions ``declared``."""
    answer = names.by_user(name)
    if answer:
        return _verdict(answer, declared, packages) if answer.candidates else Verdict(answer, "exempt")
    found = packages.provided.look_up(name)
    if found is None:
        return _verdict(names.by_mapping(name), declared, packages)
    if not set(found.candidates) & set(declared):
        # A distribution without modules of its own may be declared for those that it needs (`tensorflow`).
        whole = set(names.by_mapping(name).candidates) & set(declared)
        if packages.reached(whole) & set(found.candidates):
            return Verdict(found, "declared")
    return _verdict(found, declared, packages)


def _verdict(answer: Answer, declared: Collection[str], packages: Packages) -> Verdict:
    if set(answer.candidates) & set(declared):
        return Verdict(answer, "declared")
    there = tuple(name for name in answer.candidates if name in packages.versions)
    answer = replace(answer, candidates=there or answer.candidates)
    if len(answer.candidates) > 1:
        return Verdict(answer, "ambiguous")
    if not there:
        return Verdict(answer, "missing")
    return Verdict(answer, "transitive", tuple(sorted(packages.needed_by.get(there[0], ()))))


@dataclass(frozen=True)
class Finding:
    """One import of a step. ``text``: as a person would write it."""

    step: str
    file: str
    line: int
    text: str
    verdict: Verdict

    @property
    def where(self) -> str:
        """``file:line``."""
        return f"{self.file}:{self.line}"


def findings(step: Mapping[str, Any], declared: Collection[str], packages: Packages, names: Names) -> Iterator[Finding]:
    """Yield what the imports of ``step`` (an entry of the flow spec) mean, each package of one import once."""
    for inferred in step["inferred"]:
        module, members = inferred["module"], inferred["members"]
        grouped: dict[Verdict, list[str]] = {}
        for name in import_names(module, members):
            verdict = judge(name, declared, packages, names)
            same = replace(verdict, answer=replace(verdict.answer, name=verdict.answer.known))
            grouped.setdefault(same, []).append(name.removeprefix(f"{module}."))
        for verdict, found in grouped.items():
            text = f"from {module} import {', '.join(found)}" if members else f"import {module}"
            yield Finding(step["name"], inferred["file"], inferred["line"], text, verdict)


def _enabled(flow: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [step for step in flow["steps"] if not step["disabled"]]


def _declared(environment: Environment) -> set[str]:
    """Return what ``environment`` has for reasons of its own: declared, or needed by Metaflow in every image."""
    return {wanted.name for wanted in (*environment.wanted, *environment.runtime)}


def parse_names(pairs: Mapping[str, str]) -> Names:
    """Check the user's ``imports``.

    Raises:
        LockError: a key is no import name, or a value no name of a distribution.
    """
    for name, distribution in pairs.items():
        if not _IMPORT.fullmatch(name):
            raise LockError(f"attribute `imports`: '{name}' is not the name of an import, as `google.cloud.storage` is")
        if distribution and not _DISTRIBUTION.fullmatch(distribution):
            raise LockError(
                f"attribute `imports`: '{distribution}' (of '{name}') is not the name of a distribution; its version "
                "belongs into a decorator"
            )
    return Names(pairs)


def add_imports(
    flow: Mapping[str, Any], environments: Sequence[Environment], packages: Mapping[str, Packages], names: Names
) -> list[Environment]:
    """Return ``environments`` with a requirement, of any version, for every import that none accounts for.

    Only what is locked because of the declarations decides, and not what has been added for imports before: so the
    answer is the same whether there is a lock already or not.

    Args:
        packages: what is locked, by step.

    Raises:
        LockError: an import is ambiguous; all of them are named.
    """
    added: dict[str, tuple[Wanted, ...]] = {}
    unclear: list[Finding] = []
    by_name = {environment.name: environment for environment in environments}
    for step in _enabled(flow):
        found = _additions(step, by_name[step["name"]], packages, names)
        unclear += [item for item in found if item.verdict.state == "ambiguous"]
        wanted: dict[str, Wanted] = {}
        for item in found:
            wanted.setdefault(item.verdict.answer.candidates[0], _wanted(item))
        added[step["name"]] = tuple(wanted.values())
    if unclear:
        raise LockError(_unclear(unclear))
    return [replace(item, wanted=(*item.wanted, *added.get(item.name, ()))) for item in environments]


def _additions(
    step: Mapping[str, Any], environment: Environment, packages: Mapping[str, Packages], names: Names
) -> list[Finding]:
    """Return the imports of ``step`` for which a package is to be added.

    What would be a guess is first looked for in what the other additions bring (``mpl_toolkits`` in matplotlib), so it
    is left for later while those are not locked yet.
    """
    declared = _declared(environment)
    there = packages.get(step["name"], Packages())
    found = list(_unaccounted(step, declared, there.because_of(declared), names))
    certain = [item for item in found if item.verdict.answer.source != "guess"]
    guessed = {(item.file, item.line) for item in found if item.verdict.answer.source == "guess"}
    added = {item.verdict.answer.candidates[0] for item in certain}
    if not guessed or not added <= there.versions.keys():
        return certain
    rest = _unaccounted(step, declared | added, there.because_of(declared | added), names)
    return [*certain, *(item for item in rest if (item.file, item.line) in guessed)]


def _unaccounted(
    step: Mapping[str, Any], declared: Collection[str], packages: Packages, names: Names
) -> Iterator[Finding]:
    for item in findings(step, declared, packages, names):
        if item.verdict.state not in ("declared", "exempt"):
            yield item


def _wanted(item: Finding) -> Wanted:
    answer = item.verdict.answer
    return Wanted(answer.candidates[0], f"{item.where} ({item.text})", answer.known)


def _unclear(found: Sequence[Finding]) -> str:
    lines = [f"  step '{item.step}': {item.where} ({item.text}): {_candidates(item)}" for item in found]
    said = _attribute({item.verdict.answer.known: item.verdict.answer.candidates[0] for item in found})
    return "\n".join(
        [
            'several packages could be meant by an import, so that `infer = "add"` cannot choose:',
            *lines,
            f"Declare the one that is meant in the step, or say it for the whole flow, for example `{said}`. "
            f"{FIRST_PARTY}",
        ]
    )


def lock_with_imports(
    locker: Locker, flow: Mapping[str, Any], environments: Sequence[Environment], names: Names
) -> list[LockedEnvironment]:
    """Lock ``environments`` with what their imports need besides (``infer = "add"``).

    First what is declared is resolved, then what that lacks is added. What is added may move the versions of what is
    declared; so this is repeated until the answer stands, which makes it the answer for its own result as well.

    Raises:
        LockError: as :meth:`Locker.lock`; an import is ambiguous; or what was added for an import does not provide it.
    """
    current = list(environments)
    for _ in range(_ROUNDS):
        locked = locker.lock(current)
        packages = {item.environment.name: Packages.of_resolved(item) for item in locked}
        wanted = add_imports(flow, environments, packages, names)
        if [item.requirements for item in wanted] == [item.requirements for item in current]:
            _check_added(flow, environments, packages, names)
            for line in _added(flow, environments, packages, names):
                locker.report(line)
            return locked
        current = wanted
    raise LockError(
        "the packages that are added for imports change the versions of others in turn, without end: declare them in "
        "the steps"
    )


def _added(
    flow: Mapping[str, Any], environments: Sequence[Environment], packages: Mapping[str, Packages], names: Names
) -> list[str]:
    """Say what was added for which import, each once."""
    by_name = {environment.name: environment for environment in environments}
    lines: dict[str, list[str]] = {}
    for step in _enabled(flow):
        for item in _additions(step, by_name[step["name"]], packages, names):
            answer = item.verdict.answer
            line = f"{answer.candidates[0]}{_guessed(answer)} for {item.where} ({item.text})"
            lines.setdefault(line, []).append(step["name"])
    return [f"{', '.join(steps)}: added {line}" for line, steps in lines.items()]


def _check_added(
    flow: Mapping[str, Any], environments: Sequence[Environment], packages: Mapping[str, Packages], names: Names
) -> None:
    """Refuse packages that were added by the mapping or a guess and do not hold the module."""
    wrong = []
    by_name = {environment.name: environment for environment in environments}
    for step in _enabled(flow):
        for item in _additions(step, by_name[step["name"]], packages, names):
            answer = item.verdict.answer
            if answer.source not in ("mapping", "guess") or answer.known in UNLISTED:
                continue
            there = packages[step["name"]]
            found = there.provided.look_up(answer.known)
            if not found or not there.reached(answer.candidates) & set(found.candidates):
                wrong.append(item)
    if wrong:
        lines = [
            f"  step '{item.step}': {item.where} ({item.text}): {item.verdict.answer.candidates[0]}"
            f"{_guessed(item.verdict.answer)} holds no module '{item.verdict.answer.known}'"
            for item in wrong
        ]
        said = _attribute({item.verdict.answer.known: "…" for item in wrong})
        raise LockError(
            "\n".join(
                [
                    'what `infer = "add"` would add for an import does not provide it:',
                    *lines,
                    f"Declare the right package in the step, or name it: `{said}`. An empty name says that the image "
                    f"has it anyway. {FIRST_PARTY}",
                ]
            )
        )


def check_imports(
    flow: Mapping[str, Any], environments: Sequence[Environment], lock: Lock, names: Names
) -> list[Finding]:
    """Return the imports of all enabled steps that the declarations do not account for.

    ``environments`` hold what is declared, and what was added for imports where the user wants that.
    """
    by_name = {environment.name: environment for environment in environments}
    found: list[Finding] = []
    for step in _enabled(flow):
        declared = _declared(by_name[step["name"]])
        locked = lock.environments.get(step["name"], {})
        declared |= {canonicalize_name(Requirement(text).name) for text in locked.get("runtime", ())}
        found += _unaccounted(step, declared, Packages.of_lock(lock, step["name"]), names)
    return found


def summary(flow: Mapping[str, Any]) -> str:
    """Say that every import is accounted for, and which steps were not looked at."""
    checked = len(_enabled(flow))
    lines = [f"the imports of {checked} {'step' if checked == 1 else 'steps'} are accounted for"]
    for step in flow["steps"]:
        if step["disabled"]:
            lines.append(
                f"step '{step['name']}' is disabled: it runs with what its base image has, which is not known here"
            )
    return "\n".join(lines)


def incomplete(lock: Lock, command: str) -> list[str]:
    """Return a line about wheels whose modules ``lock`` does not know; ``command`` makes it anew."""
    missing = len(lock.document["wheels"]) - len(lock.modules())
    if not missing:
        return []
    return [
        f"The lock does not say yet which modules {missing} of its wheels hold, so that only the names of imports "
        f"decide about these: run `{command}`."
    ]


def report(flow: Mapping[str, Any], found: Sequence[Finding], lock: Lock) -> str:
    """Say for people what ``found`` is, what to write where, and how to exempt it."""
    lines = []
    for step in _enabled(flow):
        own = sorted((item for item in found if item.step == step["name"]), key=lambda item: (item.file, item.line))
        if own:
            lines.append(f"  step '{step['name']}':")
            for item in own:
                lines += [f"    {item.where}: {item.text}", f"      {_advice(item, step, lock)}"]
    lines += _everywhere(flow, found, lock)
    first = found[0].verdict.answer
    lines.append(
        f"If the image has a package anyway (from its base), say so: `{_attribute({first.known: ''})}`. "
        '`infer = "add"` locks what is missing, `infer = "off"` checks nothing.'
    )
    return "\n".join(lines)


def _advice(item: Finding, step: Mapping[str, Any], lock: Lock) -> str:
    verdict, answer = item.verdict, item.verdict.answer
    if verdict.state == "ambiguous":
        said = _attribute({answer.known: answer.candidates[0]})
        return f"{_candidates(item)}. Declare the one that is meant, or say it: `{said}`"
    name = answer.candidates[0]
    entry = _entry(name, _version(name, item.step, lock))
    if verdict.state == "transitive":
        parents = _listed(verdict.needed_by) or "another package"
        problem = f"{name} is there only because {parents} needs it"
    else:
        problem = f"{name}{_guessed(answer)} is not in the step's environment"
    if answer.source == "guess":
        own = (
            f"If '{answer.known}' is your own code, add its target to `deps` of metaflow_flow; else declare the package"
        )
        return f"{problem}. {own}: {_place(step, entry)}"
    return f"{problem}. Declare it: {_place(step, entry)}"


def _place(step: Mapping[str, Any], entry: str) -> str:
    """Return where ``entry`` goes: into the decorator that the step has, or into a new one."""
    own = [item for item in step["declared"] if item["decorator"] in ("pypi", "conda")]
    if own:
        where = f"{own[0]['file']}:{own[0]['line']}"
        return f"add {entry} to the packages of @{own[0]['decorator']} ({where})"
    conda = any(item["decorator"] == "conda_base" for item in step["declared"]) or "conda" in step["decorators"]
    return f"@{'conda' if conda else 'pypi'}(packages={{{entry}}})"


def _everywhere(flow: Mapping[str, Any], found: Sequence[Finding], lock: Lock) -> list[str]:
    """Return a line about what every step lacks."""
    steps = {step["name"] for step in _enabled(flow)}
    lacking: dict[str, set[str]] = {}
    for item in found:
        if item.verdict.state != "ambiguous" and item.verdict.answer.source != "guess":
            lacking.setdefault(item.verdict.answer.candidates[0], set()).add(item.step)
    names = sorted(name for name, who in lacking.items() if len(who) > 1 and who == steps)
    if not names:
        return []
    entries = ", ".join(_entry(name, _version(name, "", lock)) for name in names)
    return [f"  Every step needs {_listed(names)}: for all of them, on the class: @pypi_base(packages={{{entries}}})"]


def _version(name: str, step: str, lock: Lock) -> str | None:
    """Return the version of ``name`` that is locked for ``step``, else for another step."""
    for environment in (step, *sorted(lock.environments)):
        version = lock.versions(environment).get(name)
        if version:
            return version
    return None


def _entry(name: str, version: str | None) -> str:
    return f'"{name}": "{version or ""}"'


def _attribute(pairs: Mapping[str, str]) -> str:
    return "imports = {" + ", ".join(f'"{name}": "{value}"' for name, value in pairs.items()) + "}"


def _candidates(item: Finding) -> str:
    answer = item.verdict.answer
    return f"'{answer.known}' may be {_listed(answer.candidates, 'or')}"


def _guessed(answer: Answer) -> str:
    return " (a guess, from the name of the import)" if answer.source == "guess" else ""


def _listed(names: Sequence[str], word: str = "and") -> str:
    shown = list(names[:_SHOWN])
    if len(names) > _SHOWN:
        shown.append(f"{len(names) - _SHOWN} others")
    return f" {word} ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)
