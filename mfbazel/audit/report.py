"""What the advisories and the lock say together about every package of every step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

from mfbazel.audit.advisory import Advisory
from mfbazel.audit.database import Database
from mfbazel.audit.errors import AuditError
from mfbazel.audit.matching import affects, fixes
from mfbazel.lock.document import Lock
from mfbazel.lock.model import LAUNCHER

_ORDER = ("CVE-", "GHSA-", "PYSEC-")
"""Which of several ids of a vulnerability names it: the best known one."""

_WORDS = ("CRITICAL", "HIGH", "MODERATE", "MEDIUM", "LOW")


@dataclass(frozen=True)
class Finding:
    """A vulnerability of a package: all advisories about it that are aliases of each other.

    Attributes:
        aliases: its other ids.
        severity: as the databases say (``HIGH``), empty where they do not.
        scores: CVSS vectors.
        fixed: versions that fix it, in order; empty where none is known.
        ignored: the reason to ignore it, perhaps empty; ``None``: it counts.
    """

    id: str
    aliases: tuple[str, ...]
    summary: str
    severity: str
    scores: tuple[str, ...]
    fixed: tuple[str, ...]
    ignored: str | None = None


@dataclass(frozen=True)
class Package:
    """One version of a distribution.

    Attributes:
        license: an SPDX expression or the package's own words, ``unknown`` where its wheel does not say; ``None`` where
            the lock does not.
        steps: the environments that hold it, the launcher's among them.
        required: by step, what it requires of the package itself.
    """

    name: str
    version: str
    license: str | None
    steps: tuple[str, ...]
    required: Mapping[str, str]
    findings: tuple[Finding, ...] = ()

    @property
    def launcher_only(self) -> bool:
        """Whether it is in no image."""
        return self.steps == (LAUNCHER,)

    @property
    def counting(self) -> tuple[Finding, ...]:
        """The findings that are not ignored."""
        return tuple(finding for finding in self.findings if finding.ignored is None)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Report:
    """A lock audited.

    Attributes:
        packages: ordered by name and version.
        database: ``None`` without advisories.
        unused: ignored ids that apply to nothing.
    """

    packages: tuple[Package, ...]
    database: Database | None
    unused: tuple[str, ...]

    @property
    def vulnerable(self) -> tuple[Package, ...]:
        """The packages with findings that count."""
        return tuple(package for package in self.packages if package.counting)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        database = self.database
        return {
            "packages": [package.to_json() for package in self.packages],
            "database": {"advisories": database.count, "newest": database.newest} if database else None,
            "unused_ignores": list(self.unused),
        }


def packages_of(lock: Lock, steps: Sequence[str] = (), names: Sequence[str] = ()) -> list[Package]:
    """Return the packages of ``lock`` on all its platforms, in the order of name and version.

    Args:
        steps: only of these environments; all when empty.
        names: only these distributions (normalized); all when empty.

    Raises:
        AuditError: the lock has none of that name, or is no lock.
    """
    try:
        return _packages_of(lock, steps, names)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise AuditError(f"flow.json is not a lock: {error!r}. Make it anew.") from error


def _packages_of(lock: Lock, steps: Sequence[str], names: Sequence[str]) -> list[Package]:
    for step in steps:
        if step not in lock.environments:
            raise AuditError(f"--step {step}: the lock has no such step; it has {', '.join(sorted(lock.environments))}")
    found: dict[tuple[str, str], dict[str, set[str]]] = {}
    for step, environment in lock.environments.items():
        for sha256 in {sha for shas in environment["wheels"].values() for sha in shas} if _in(step, steps) else ():
            wheel = lock.document["wheels"][sha256]
            entry = found.setdefault((wheel["name"], wheel["version"]), {"steps": set(), "licenses": set()})
            entry["steps"].add(step)
            entry["licenses"] |= {wheel["license"]} if "license" in wheel else set()
    known = {name for name, _ in found}
    for name in names:
        if name not in known:
            raise AuditError(f"--package {name}: it is not locked; the packages are {', '.join(sorted(known))}")
    keys = sorted(key for key in found if _in(key[0], names))
    order = [*_steps_in_order(lock), LAUNCHER]
    return [_package(*key, found[key], order, lock) for key in sorted(keys, key=lambda key: (key[0], Version(key[1])))]


def _in(name: str, names: Sequence[str]) -> bool:
    return not names or name in names


def _steps_in_order(lock: Lock) -> list[str]:
    flow = [step["name"] for step in (lock.document["flow"] or {}).get("steps", [])]
    return [*flow, *sorted(set(lock.environments) - set(flow) - {LAUNCHER})]


def _package(name: str, version: str, found: Mapping[str, set[str]], order: Sequence[str], lock: Lock) -> Package:
    steps = tuple(step for step in order if step in found["steps"])
    required = {}
    for step in steps:
        for text in lock.environments[step].get("requirements", ()):
            if Requirement(text).name == name:
                required[step] = text
    return Package(name, version, ", ".join(sorted(found["licenses"])) or None, steps, required)


def audit(packages: Sequence[Package], database: Database | None, ignored: Mapping[str, str]) -> Report:
    """Enter the advisories of ``database`` into ``packages``.

    Args:
        packages: see :func:`packages_of`.
        database: ``None``: no advisories are given.
        ignored: reasons (perhaps empty) by id; an alias of it is ignored, too.
    """
    if database is None:
        return Report(tuple(packages), None, ())
    reasons = {name.upper(): reason for name, reason in ignored.items()}
    audited = tuple(
        replace(package, findings=tuple(_findings(package, database.of(package.name), reasons))) for package in packages
    )
    found = {id.upper() for item in audited for finding in item.findings for id in (finding.id, *finding.aliases)}
    return Report(audited, database, tuple(id for id in ignored if id.upper() not in found))


def _findings(package: Package, advisories: Iterable[Advisory], reasons: Mapping[str, str]) -> list[Finding]:
    version = Version(package.version)
    applying = [
        advisory
        for advisory in advisories
        if any(item.name == package.name and affects(item, version) for item in advisory.affected)
    ]
    findings = [_finding(package.name, version, group, reasons) for group in _merged(applying)]
    return sorted(findings, key=lambda finding: (_rank(finding.severity), finding.id))


def _merged(advisories: Sequence[Advisory]) -> list[list[Advisory]]:
    """Return ``advisories`` grouped: those that share an id or an alias, also by way of others, are one group."""
    groups: list[tuple[set[str], list[Advisory]]] = []
    for advisory in advisories:
        ids, members = {advisory.id, *advisory.aliases}, [advisory]
        for group in [group for group in groups if group[0] & ids]:
            groups.remove(group)
            ids, members = ids | group[0], [*group[1], *members]
        groups.append((ids, members))
    return [members for _, members in groups]


def _finding(name: str, version: Version, group: Sequence[Advisory], reasons: Mapping[str, str]) -> Finding:
    first, *aliases = sorted({id for item in group for id in (item.id, *item.aliases)}, key=_id_order)
    affected = [item for advisory in group for item in advisory.affected if item.name == name]
    scores = [score for advisory in group for score in advisory.scores]
    scores += [score for item in affected for score in item.scores]
    fixed = {fix for item in affected if affects(item, version) for fix in fixes(item, version)}
    ignored = [reasons[id.upper()] for id in (first, *aliases) if id.upper() in reasons]
    return Finding(
        first,
        tuple(aliases),
        next((item.summary for item in group if item.summary), ""),
        min((item.severity.upper() for item in group if item.severity), key=_rank, default=""),
        tuple(dict.fromkeys(scores)),
        tuple(sorted(fixed, key=Version)),
        next((reason for reason in ignored if reason), "") if ignored else None,
    )


def _id_order(id: str) -> tuple[int, str]:
    rank = next((number for number, prefix in enumerate(_ORDER) if id.startswith(prefix)), len(_ORDER))
    return rank, id


def _rank(severity: str) -> int:
    return _WORDS.index(severity) if severity in _WORDS else len(_WORDS)


def blocking(package: Package, finding: Finding) -> Iterator[tuple[str, str]]:
    """Yield step and requirement where the step itself requires a version without the fix."""
    for step, text in package.required.items():
        specifier = Requirement(text).specifier
        if finding.fixed and not any(specifier.contains(fixed, prereleases=True) for fixed in finding.fixed):
            yield step, text
