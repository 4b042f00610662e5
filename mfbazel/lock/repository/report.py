"""Packages that stand at several versions across the flows of a repository, and what aligning them would save.

Computed from locks alone. A wheel is stored once, however many flows use it, and a layer is one blob wherever the same
wheels lie in it for the same Python and platform; so another version of a package is another wheel, and makes all
layers that it is in others. What aligning saves is found by planning the layers again with versions replaced. No
resolver is asked: what else would change with a version is not known here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from mfbazel.lock.document import Lock, planned
from mfbazel.lock.requirements_txt import parse_annotations
from mfbazel.plan import PlanError, PlannedWheel, plan_layers

# (platform, Python X.Y, sha256 of the wheels): what makes two layers the same blob.
_Layer = tuple[str, str, tuple[str, ...]]
# (platform, Python X.Y, sha256): where a wheel is.
_Place = tuple[str, str, str]
# (Python X.Y, variant): images that can share a distribution.
_Group = tuple[str, str]
_Targets = dict[str, dict[_Group, "_Target"]]
# (platform, budget, (step, Python X.Y, sha256 of its wheels …) …)
_Plan = tuple[str, int, tuple[tuple[str, ...], ...]]
# (flow, platform): what layers are planned for together.
_Unit = tuple[str, str]


@dataclass(frozen=True)
class Use:
    """The ``steps`` of ``flow`` (its label) that have a version; both for people."""

    flow: str
    steps: tuple[str, ...]


@dataclass(frozen=True)
class VersionUse:
    """One version of a distribution: who has it, and the bytes of its wheels (each counted once)."""

    version: str
    bytes: int
    uses: tuple[Use, ...]


@dataclass(frozen=True)
class Saving:
    """What would no longer be stored and pushed: bytes of wheels, layers, and the bytes of wheels in those layers."""

    wheel_bytes: int = 0
    layers: int = 0
    layer_bytes: int = 0

    def to_json(self) -> dict[str, int]:
        """Return it as the report has it."""
        return {"wheel_bytes": self.wheel_bytes, "layers": self.layers, "layer_bytes": self.layer_bytes}


@dataclass(frozen=True)
class Alignment:
    """One version for all steps with the same Python that have the distribution in the same variant.

    Attributes:
        python: ``X.Y``; layers of different Pythons share nothing.
        version: the newest one in use that the fewest declarations forbid.
        constraint: the line for a constraints file; ``None`` where one line cannot say it, since variants differ.
        forbidden: declarations that do not allow ``version``, each with its flow and steps.
    """

    python: str
    version: str
    constraint: str | None
    forbidden: tuple[str, ...]


@dataclass(frozen=True)
class Diverging:
    """A distribution at several versions.

    Attributes:
        alignments: empty where no two of the versions share a Python and a variant.
        together: the names of those among the others that it needs, and that can be aligned as well.
        saving: that of all ``alignments``, and of those of ``together``.
    """

    name: str
    versions: tuple[VersionUse, ...]
    alignments: tuple[Alignment, ...]
    together: tuple[str, ...] = ()
    saving: Saving = Saving()

    @property
    def allowed(self) -> bool:
        """Whether no declaration forbids the alignments."""
        return not any(alignment.forbidden for alignment in self.alignments)


@dataclass(frozen=True)
class Report:
    """The report.

    Attributes:
        flows: how many flows it is about.
        stored: what all their images need now.
        diverging: the distributions at several versions, those whose alignment saves most bytes of layers first.
        saving: of all alignments that no declaration forbids, together.
        saving_at_most: of all alignments together.
    """

    flows: int
    stored: Saving
    diverging: tuple[Diverging, ...]
    saving: Saving
    saving_at_most: Saving

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values; sizes in bytes."""
        return {
            "schema": 1,
            "flows": self.flows,
            "stored": self.stored.to_json(),
            "packages": [_diverging_json(item) for item in self.diverging],
            "saving": self.saving.to_json(),
            "saving_at_most": self.saving_at_most.to_json(),
        }


def _diverging_json(item: Diverging) -> dict[str, Any]:
    return {
        "name": item.name,
        "versions": [
            {
                "version": version.version,
                "bytes": version.bytes,
                "uses": [{"flow": use.flow, "steps": list(use.steps)} for use in version.uses],
            }
            for version in item.versions
        ],
        "alignments": [
            {
                "python": alignment.python,
                "version": alignment.version,
                "constraint": alignment.constraint,
                "forbidden": list(alignment.forbidden),
            }
            for alignment in item.alignments
        ],
        "together": list(item.together),
        "saving": item.saving.to_json(),
    }


def make_report(locks: Mapping[str, Lock]) -> Report:
    """Compare ``locks``, which are named by the labels of their flows.

    Environments whose names start with ``_`` become no image and do not count.

    Raises:
        mfbazel.plan.PlanError: a lock names a wheel that it does not describe.
    """
    images = _images(locks)
    stock = _Stock(images)
    several = {
        name: found
        for name, found in _by_distribution(images).items()
        if len({image.version(name) for image in found}) > 1
    }
    parents = {
        name: set().union(*(image.needed_by(name) for image in several[name])) & several.keys() for name in several
    }
    targets: _Targets = {}
    for name in _parents_first(parents):
        targets[name] = _targets(name, several[name], targets)
    replaced = {name: stock.replacing(name, several[name], targets[name]) for name in sorted(several)}
    diverging = [Diverging(name, _versions(name, several[name]), _alignments(name, targets[name])) for name in replaced]
    allowed = {item.name for item in diverging if item.allowed}
    found = [_with_saving(item, allowed, parents, replaced, stock) for item in diverging]
    found.sort(key=lambda item: (-item.saving.layer_bytes, -item.saving.wheel_bytes, item.name))
    return Report(
        len(locks),
        stock.stored(),
        tuple(found),
        stock.saving(_joined(replaced[name] for name in allowed)),
        stock.saving(_joined(replaced.values())),
    )


def _parents_first(parents: Mapping[str, Collection[str]]) -> list[str]:
    """Return the keys of ``parents``, each after its parents where they need each other in no circle."""
    order: dict[str, None] = {}
    seen: set[str] = set()

    def visit(name: str) -> None:
        if name not in seen:
            seen.add(name)
            for parent in sorted(parents[name]):
                visit(parent)
            order[name] = None

    for name in sorted(parents):
        visit(name)
    return list(order)


def _with_saving(
    item: Diverging,
    allowed: AbstractSet[str],
    parents: Mapping[str, Collection[str]],
    replaced: Mapping[str, Mapping[_Place, str]],
    stock: _Stock,
) -> Diverging:
    together = {item.name}
    waiting = [item.name]
    while waiting:
        parent = waiting.pop()
        children = {name for name in allowed - together if parent in parents[name] and replaced[name]}
        together |= children
        waiting += children
    saving = stock.saving(_joined(replaced[name] for name in together)) if replaced[item.name] else Saving()
    others = tuple(sorted(together - {item.name})) if replaced[item.name] else ()
    return replace(item, together=others, saving=saving)


def _joined(several: Iterable[Mapping[_Place, str]]) -> dict[_Place, str]:
    return {place: sha for one in several for place, sha in one.items()}


def diverging_names(locks: Mapping[str, Lock]) -> list[str]:
    """Return the names of the distributions at several versions, sorted: the report's, without what aligning saves."""
    versions: dict[str, set[str]] = defaultdict(set)
    for lock in locks.values():
        for environment in lock.environments:
            if not environment.startswith("_"):
                for name, version in lock.versions(environment).items():
                    versions[name].add(version)
    return sorted(name for name, several in versions.items() if len(several) > 1)


@dataclass(frozen=True)
class _Image:
    """An environment of a flow on one platform.

    Attributes:
        wheels: the descriptions of its wheels, as in the lock, by sha256.
        shas: the wheels' sha256 by name.
        declared: its requirements that limit versions, by name.
        indexes: the policy's index by name of the distribution, where there is one.
        text: the requirements file, whose annotations say why a distribution is there.
        budget: of layers.
    """

    flow: str
    platform: str
    step: str
    python: str
    wheels: Mapping[str, Mapping[str, Any]]
    shas: Mapping[str, str]
    declared: Mapping[str, Sequence[Requirement]]
    indexes: Mapping[str, str]
    text: str
    budget: int

    @cached_property
    def _via(self) -> Mapping[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for (name, _), via in parse_annotations(self.text).items():
            found[name].update(via)
        return found

    def needed_by(self, name: str) -> set[str]:
        """Return the distributions that require ``name``."""
        return self._via.get(name, set()) & self.shas.keys()

    def version(self, name: str) -> str:
        """Return the version of ``name``."""
        return str(self.wheels[self.shas[name]]["version"])

    def group(self, name: str) -> _Group:
        """Return what has to be equal for two images to be able to share ``name``: Python, and variant: the index that
        it comes from and its local version label (PEP 440), as CUDA and CPU builds have."""
        return self.python, f"{self.indexes.get(name, '')}+{Version(self.version(name)).local or ''}"

    def place(self, sha256: str) -> _Place:
        """Return where the wheel is."""
        return self.platform, self.python, sha256

    def replace(self, replaced: Mapping[_Place, str]) -> list[str]:
        """Return the sha256 of the wheels after they are ``replaced``."""
        return [replaced.get(self.place(sha), sha) for sha in self.wheels]


@dataclass(frozen=True)
class _Target:
    """The version that a group is aligned on, what forbids it, and whether the group has another one now."""

    version: str
    forbidden: tuple[str, ...]
    changes: bool


def _images(locks: Mapping[str, Lock]) -> list[_Image]:
    return [
        image
        for flow, lock in sorted(locks.items())
        for step, environment in sorted(lock.environments.items())
        if not step.startswith("_")
        for image in _images_of(flow, step, environment, lock)
    ]


def _images_of(flow: str, step: str, environment: Mapping[str, Any], lock: Lock) -> Iterator[_Image]:
    described = lock.document["wheels"]
    text = lock.texts.get(environment["file"], "")
    declared = _declared(environment)
    indexes = environment.get("policy", {}).get("indexes", {})
    for platform, shas in environment["wheels"].items():
        missing = [sha for sha in shas if sha not in described]
        if missing:
            raise PlanError(f"{flow}: the lock of '{step}' names the wheel {missing[0]} and does not describe it")
        wheels = {sha: described[sha] for sha in shas}
        names = {wheel["name"]: sha for sha, wheel in wheels.items()}
        python = environment["python"]
        yield _Image(flow, platform, step, python, wheels, names, declared, indexes, text, lock.budget)


def _declared(environment: Mapping[str, Any]) -> dict[str, list[Requirement]]:
    """Return the requirements of ``environment`` with a version, where their markers apply, by normalized name."""
    found: dict[str, list[Requirement]] = defaultdict(list)
    policy = environment.get("policy", {}).get("constraints", [])
    target = {"python_version": environment["python"], "sys_platform": "linux", "platform_system": "Linux"}
    for text in [*environment["requirements"], *environment["runtime"], *policy]:
        requirement = Requirement(text)
        if requirement.specifier and (requirement.marker is None or requirement.marker.evaluate({**target})):
            found[canonicalize_name(requirement.name)].append(requirement)
    return found


def _by_distribution(images: Iterable[_Image]) -> dict[str, list[_Image]]:
    found: dict[str, list[_Image]] = defaultdict(list)
    for image in images:
        for name in image.shas:
            found[name].append(image)
    return found


def _versions(name: str, images: Sequence[_Image]) -> tuple[VersionUse, ...]:
    """Return the versions of ``name``, the newest first."""
    flows: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    sizes: dict[str, dict[str, int]] = defaultdict(dict)
    for image in images:
        version, sha = image.version(name), image.shas[name]
        flows[version][image.flow].add(image.step)
        sizes[version][sha] = _size(image.wheels[sha])
    return tuple(
        VersionUse(
            version,
            sum(sizes[version].values()),
            tuple(Use(flow, tuple(sorted(steps))) for flow, steps in sorted(flows[version].items())),
        )
        for version in sorted(flows, key=Version, reverse=True)
    )


def _size(wheel: Mapping[str, Any]) -> int:
    return max(0, int(wheel.get("size", 0)))


def _targets(name: str, images: Sequence[_Image], settled: _Targets) -> dict[_Group, _Target]:
    """Return what each group of ``images`` is aligned on. ``settled``: the same for what may need ``name``."""
    groups: dict[_Group, list[_Image]] = defaultdict(list)
    for image in images:
        groups[image.group(name)].append(image)
    return {group: _target(name, members, settled) for group, members in sorted(groups.items())}


def _target(name: str, images: Sequence[_Image], settled: _Targets) -> _Target:
    """Choose the version that the fewest declarations forbid; then one that stands beside the versions chosen for what
    needs it, as one that is pinned by what needs it must; then the newest."""
    versions = {image.version(name) for image in images}
    stable = {version for version in versions if not Version(version).is_prerelease} or versions
    follows = {image.version(name) for image in images if _is_settled(name, image, settled)}
    choices = [(_forbidden(name, version, images), version) for version in sorted(stable, key=Version, reverse=True)]
    forbidden, version = min(choices, key=lambda choice: (len(choice[0]), choice[1] not in follows))
    return _Target(version, forbidden, changes=len(versions) > 1)


def _is_settled(name: str, image: _Image, settled: _Targets) -> bool:
    """Say whether everything in ``image`` that needs ``name`` stands at the version that was chosen for it."""
    parents = image.needed_by(name) & settled.keys()
    return all(settled[parent][image.group(parent)].version == image.version(parent) for parent in parents)


def _forbidden(name: str, version: str, images: Iterable[_Image]) -> tuple[str, ...]:
    steps: dict[tuple[str, str], set[str]] = defaultdict(set)
    for image in images:
        for requirement in image.declared.get(name, ()):
            if not requirement.specifier.contains(version, prereleases=True):
                steps[image.flow, str(requirement)].add(image.step)
    return tuple(f"{flow} ({', '.join(sorted(names))}): {text}" for (flow, text), names in sorted(steps.items()))


def _alignments(name: str, targets: Mapping[_Group, _Target]) -> tuple[Alignment, ...]:
    """Return those of ``targets`` that change something, with a constraint each."""
    public: dict[str, set[str]] = defaultdict(set)
    for (python, _), target in targets.items():
        public[python].add(Version(target.version).public)
    everywhere = len(set().union(*public.values())) == 1
    found = []
    for (python, _), target in targets.items():
        if target.changes:
            marker = "" if everywhere else f' ; python_version == "{python}"'
            line = f"{name}=={Version(target.version).public}{marker}" if len(public[python]) == 1 else None
            found.append(Alignment(python, target.version, line, target.forbidden))
    return tuple(found)


class _Stock:
    """All wheels and layers that the images need, each once, and what remains of them when versions are replaced."""

    def __init__(self, images: Sequence[_Image]) -> None:
        self._wheels: dict[str, PlannedWheel] = {}
        self._units: dict[_Unit, list[_Image]] = defaultdict(list)
        self._units_with: dict[_Place, set[_Unit]] = defaultdict(set)
        for image in images:
            unit = (image.flow, image.platform)
            self._units[unit].append(image)
            for sha, wheel in image.wheels.items():
                self._wheels[sha] = planned(sha, wheel)
                self._units_with[image.place(sha)].add(unit)
        self._plans: dict[_Plan, frozenset[_Layer]] = {}
        self._layers = {unit: self._planned(unit, {}) for unit in self._units}
        self._counts = Counter(layer for layers in self._layers.values() for layer in layers)
        self._used = Counter(sha for image in images for sha in image.wheels)

    def stored(self) -> Saving:
        """Return what is stored now."""
        return Saving(self._bytes_of(self._used), len(self._counts), self._layer_bytes(self._counts))

    def replacing(self, name: str, images: Sequence[_Image], targets: Mapping[_Group, _Target]) -> dict[_Place, str]:
        """Return the wheels of ``name`` to replace, and by which, so that every group has its target."""
        known: dict[tuple[_Group, str], dict[str, str]] = defaultdict(dict)
        for image in sorted(images, key=lambda image: image.shas[name]):
            known[image.group(name), image.version(name)].setdefault(image.platform, image.shas[name])
        replaced = {}
        for image in images:
            group = image.group(name)
            target = targets[group].version
            if image.version(name) != target:
                wheels = known[group, target]
                sha = wheels.get(image.platform) or self._made_up(name, target, image, wheels.values())
                replaced[image.place(image.shas[name])] = sha
        return replaced

    def _made_up(self, name: str, version: str, image: _Image, others: Iterable[str]) -> str:
        """Make up a wheel for a platform on which nobody has ``version``, as large as those of other platforms."""
        sha = f"{name}-{version}-{image.platform}-{image.python}"
        self._wheels[sha] = PlannedWheel(name, version, max(self._wheels[other].size for other in others))
        return sha

    def saving(self, replaced: Mapping[_Place, str]) -> Saving:
        """Return what is stored less when wheels are ``replaced``."""
        counts, used = Counter(self._counts), Counter(self._used)
        for unit in set().union(*(self._units_with[place] for place in replaced)):
            counts.subtract(self._layers[unit])
            counts.update(self._planned(unit, replaced))
            for image in self._units[unit]:
                used.subtract(image.shas.values())
                used.update(image.replace(replaced))
        layers, wheels = +counts, +used
        return Saving(
            self._bytes_of(self._used) - self._bytes_of(wheels),
            len(self._counts) - len(layers),
            self._layer_bytes(self._counts) - self._layer_bytes(layers),
        )

    def _planned(self, unit: _Unit, replaced: Mapping[_Place, str]) -> frozenset[_Layer]:
        """Plan the layers of one flow on one platform; flows of the same packages are planned once."""
        images = self._units[unit]
        steps = tuple((image.step, image.python, *image.replace(replaced)) for image in images)
        plan = (unit[1], images[0].budget, steps)
        if plan not in self._plans:
            self._plans[plan] = self._plan(plan)
        return self._plans[plan]

    def _plan(self, plan: _Plan) -> frozenset[_Layer]:
        platform, budget, images = plan
        pythons = {step: python for step, python, *_ in images}
        environments = {step: shas for step, _, *shas in images}
        wheels = {sha: self._wheels[sha] for shas in environments.values() for sha in shas}
        return frozenset(
            (platform, pythons[step], tuple(sorted(layer.wheels)))
            for layer in plan_layers(environments, wheels, pythons=pythons, budget=budget)
            for step in layer.environments
        )

    def _bytes_of(self, shas: Iterable[str]) -> int:
        return sum(self._wheels[sha].size for sha in shas)

    def _layer_bytes(self, layers: Iterable[_Layer]) -> int:
        return sum(self._bytes_of(shas) for _, _, shas in layers)
