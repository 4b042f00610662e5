"""The layers that a lock plans for its images, why each is one, and what that costs.

Bytes are those of wheel files: the blobs, which are compressed otherwise, come with a build.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from mfbazel.lock.document import Lock, planned
from mfbazel.plan import BIG, MOST_LAYERS, Origin, PlannedWheel, plan_layers

# Keys of wheels, and the steps that have them in one layer.
_Part = tuple[Collection[str], Collection[str]]
# Python X.Y and keys of wheels: what makes two layers one blob.
_Blob = tuple[str, frozenset[str]]


@dataclass(frozen=True)
class LayerWheel:
    """A wheel in a layer; ``size`` in bytes, ``None`` of what a target makes."""

    name: str
    version: str
    size: int | None

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class LayerReport:
    """A layer of the plan; all figures are bytes.

    Attributes:
        steps: those whose images contain it, in the order of the flow.
        why: ``big`` (a wheel that is big enough for a layer of its own), ``target`` (the wheel of a target), ``steps``
            (small wheels that the same steps use), ``sources`` (the same, of wheels that no index has), ``budget``
            (merged, so that a step stays within the budget), or ``rest`` (what such a merge copied, for the steps that
            needed none).
        size: of its wheels.
        saved: what would be stored besides if each step had a layer of its own.
        twice: of its wheels that are in another layer as well.
        bump: what is pushed again when one of its wheels changes; of the wheel for which that is most.
    """

    name: str
    wheels: tuple[LayerWheel, ...]
    steps: tuple[str, ...]
    why: str
    size: int
    saved: int
    twice: int
    bump: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "wheels": [asdict(wheel) for wheel in self.wheels], "steps": list(self.steps)}


@dataclass(frozen=True)
class StepLayers:
    """The layers of a step: how many, the bytes of their wheels, and of those that it shares with other steps."""

    step: str
    layers: int
    size: int
    shared: int


@dataclass(frozen=True)
class PlanCost:
    """What a plan costs.

    Attributes:
        plan: ``this``, ``room`` (nothing merged for the budget), ``alone`` (each wheel in a layer of its own),
            ``steps`` (one layer for all wheels that the same steps use) or ``one`` (one layer per step).
        layers: in all.
        most: layers of the step that has most.
        stored: bytes of all layers, each counted once.
        bump: bytes that are pushed again when one wheel changes, on average over the wheels.
    """

    plan: str
    layers: int
    most: int
    stored: int
    bump: int


@dataclass(frozen=True)
class LayersReport:
    """All layers of one platform from the bottom to the top. ``plans``: this plan first, then others to compare."""

    platform: str
    budget: int
    layers: tuple[LayerReport, ...]
    steps: tuple[StepLayers, ...]
    plans: tuple[PlanCost, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "platform": self.platform,
            "budget": self.budget,
            "layers": [layer.to_json() for layer in self.layers],
            "steps": [asdict(step) for step in self.steps],
            "plans": [asdict(plan) for plan in self.plans],
        }


def explain_layers(lock: Lock, platform: str, order: Sequence[str]) -> LayersReport:
    """Explain the layers of ``lock`` on ``platform``; ``order``: of the steps."""
    return _Explained(lock, platform, order).report()


class _Explained:
    """A lock on one platform."""

    def __init__(self, lock: Lock, platform: str, order: Sequence[str]) -> None:
        self._budget = lock.budget
        self._platform = platform
        self._keys: dict[str, Sequence[str]] = {
            name: entry["wheels"].get(platform, ())
            for name, entry in lock.environments.items()
            if not name.startswith("_")
        }
        self._order = [name for name in (*order, *sorted(self._keys.keys() - {*order})) if name in self._keys]
        self._pythons: dict[str, str] = {name: lock.environments[name].get("python", "") for name in self._keys}
        used = {key for keys in self._keys.values() for key in keys}
        self._wheels: dict[str, PlannedWheel] = {key: planned(key, lock.document["wheels"][key]) for key in used}
        self._plan: list[_Part] = [
            (layer["wheels"], layer["environments"]) for layer in lock.document["layers"][platform]
        ]
        self._names = [layer["name"] for layer in lock.document["layers"][platform]]

    def report(self) -> LayersReport:
        layers = tuple(self._layer(name, *part) for name, part in zip(self._names, self._plan, strict=True))
        steps = tuple(
            StepLayers(
                step,
                len(own := [layer for layer in layers if step in layer.steps]),
                sum(layer.size for layer in own),
                sum(layer.size for layer in own if len(layer.steps) > 1),
            )
            for step in self._order
        )
        merged = any(layer.why == "budget" for layer in layers)
        return LayersReport(self._platform, self._budget, layers, steps, tuple(self._plans(merged=merged)))

    def _layer(self, name: str, keys: Collection[str], users: Collection[str]) -> LayerReport:
        size = self._size(keys)
        places = {key: [blob for blob in self._blobs if key in blob[1]] for key in keys}
        pythons = {self._pythons[user] for user in users}
        return LayerReport(
            name,
            tuple(sorted((self._wheel(key) for key in keys), key=lambda wheel: wheel.name)),
            tuple(step for step in self._order if step in users),
            self._why(keys, users),
            size,
            (len(users) - len(pythons)) * size,
            self._size(key for key in keys if sum(python in pythons for python, _ in places[key]) > len(pythons)),
            max(sum(self._size(blob[1]) for blob in blobs) for blobs in places.values()),
        )

    def _wheel(self, key: str) -> LayerWheel:
        wheel = self._wheels[key]
        return LayerWheel(wheel.name, wheel.version, None if wheel.origin == Origin.TARGET else wheel.size)

    def _why(self, keys: Collection[str], users: Collection[str]) -> str:
        """Find out why ``keys`` are a layer, which a plan does not say."""
        pythons = {self._pythons[user] for user in users}
        sorts = {(frozenset(self._users(key, pythons)), self._wheels[key].origin) for key in keys}
        wheels = [self._wheels[key] for key in keys]
        origin = max(wheel.origin for wheel in wheels)
        large = any(wheel.size >= BIG for wheel in wheels)
        if len(sorts) > 1 or (len(keys) > 1 and (large or origin == Origin.TARGET)):
            return "budget"
        if {*users} != min(sorts)[0]:
            return "rest"
        if origin == Origin.TARGET:
            return "target"
        return "big" if large else "sources" if origin == Origin.SOURCE else "steps"

    def _users(self, key: str, pythons: Collection[str]) -> Iterator[str]:
        return (name for name, keys in self._keys.items() if key in keys and self._pythons[name] in pythons)

    def _size(self, keys: Iterable[str]) -> int:
        return sum(self._wheels[key].size for key in keys)

    @cached_property
    def _blobs(self) -> set[_Blob]:
        return self._blobs_of(self._plan)

    def _blobs_of(self, plan: Iterable[_Part]) -> set[_Blob]:
        return {(self._pythons[user], frozenset(keys)) for keys, users in plan for user in users}

    def _plans(self, *, merged: bool) -> Iterator[PlanCost]:
        yield self._cost("this", self._plan)
        if merged:
            yield self._cost("room", self._planned(BIG))
        yield self._cost("alone", list(self._each_alone()))
        yield self._cost("steps", self._planned(1 << 62))
        yield self._cost("one", [(keys, [step]) for step, keys in self._keys.items() if keys])

    def _planned(self, big: int) -> list[_Part]:
        layers = plan_layers(self._keys, self._wheels, pythons=self._pythons, budget=MOST_LAYERS, big=big)
        return [(layer.wheels, layer.environments) for layer in layers]

    def _each_alone(self) -> Iterator[_Part]:
        for key in self._wheels:
            for python in {*self._pythons.values()}:
                users = list(self._users(key, [python]))
                if users:
                    yield [key], users

    def _cost(self, name: str, plan: Sequence[_Part]) -> PlanCost:
        blobs = self._blobs_of(plan)
        sizes: Mapping[_Blob, int] = {blob: self._size(blob[1]) for blob in blobs}
        counts = [sum(step in users for _, users in plan) for step in self._order]
        pushed = sum(sizes[blob] * len(blob[1]) for blob in blobs)
        return PlanCost(
            name, len(blobs), max(counts, default=0), sum(sizes.values()), pushed // max(1, len(self._wheels))
        )
