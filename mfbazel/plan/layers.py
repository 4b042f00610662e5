"""The planner.

Big wheels get a layer of their own, small ones share a layer with those that exactly the same environments use. All
images take their layers from one list in one order: a runtime caches layers by chain, so images share what they have
in common only while they stack it alike. At the bottom are the big wheels, which change one at a time; on top are the
groups, which change whenever one of many small wheels does; in both, what more images use comes first.

An image with more layers than the budget loses some in two ways, in this order: its smallest big wheels join the group
of the same environments; then its smallest layers are copied together into one that only this image uses. Either way
an image sees its own wheels, each once, and nothing else.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mfbazel.plan.errors import PlanError

BIG = 4 << 20
"""Size in bytes of the wheel file from which a wheel gets a layer of its own."""

BUDGET = 24
"""Dependency layers per image."""

MOST_LAYERS = 100
"""The highest budget: container runtimes refuse images of more than about 125 layers, the base's included."""

_Users = frozenset[str]


@dataclass(frozen=True)
class PlannedWheel:
    """What the planner needs to know of a wheel; ``size`` in bytes of the file."""

    name: str
    version: str
    size: int


@dataclass(frozen=True)
class Layer:
    """A layer: its ``name`` (safe as a file name, unique in the plan even where case does not count), the sha256 of its
    ``wheels`` and the names of the ``environments`` whose images contain it, both sorted."""

    name: str
    wheels: tuple[str, ...]
    environments: tuple[str, ...]


@dataclass
class _Plan:
    """Single-wheel layers (sha256 → users) and groups (users → sha256)."""

    sizes: Mapping[str, int]
    singles: dict[_Users, list[str]] = field(default_factory=dict)
    groups: dict[_Users, set[str]] = field(default_factory=dict)

    def layers_of(self, image: str) -> int:
        """Count the layers of ``image``."""
        singles = sum(len(wheels) for users, wheels in self.singles.items() if image in users)
        return singles + sum(image in users for users in self.groups)

    def add(self, users: _Users, wheels: Iterable[str]) -> None:
        """Put ``wheels`` into the group of ``users``."""
        if users:
            self.groups.setdefault(users, set()).update(wheels)


def plan_layers(
    environments: Mapping[str, Sequence[str]],
    wheels: Mapping[str, PlannedWheel],
    *,
    budget: int = BUDGET,
    big: int = BIG,
) -> list[Layer]:
    """Plan the layers of all images on one platform.

    Args:
        environments: per environment the sha256 of its wheels; names that begin with ``_`` are no images and ignored.
        wheels: the wheels by sha256.
        budget: how many layers each image may have, 1 to :data:`MOST_LAYERS`.
        big: the size in bytes from which a wheel gets a layer of its own.

    Returns:
        The layers from the bottom to the top. An image consists of those that name its environment, in this order.

    Raises:
        PlanError: ``budget`` is out of range, or a wheel of an environment is not in ``wheels``.
    """
    if not 1 <= budget <= MOST_LAYERS:
        raise PlanError(
            f"attribute `budget`: {budget} layers per image is out of range; choose 1 to {MOST_LAYERS} "
            f"(container runtimes "
            "refuse images of more than about 125 layers, the base's included)"
        )
    images = {name: sorted(set(shas)) for name, shas in environments.items() if not name.startswith("_")}
    plan = _initial(images, wheels, big)
    for image in sorted(images):
        _join_same_users(plan, image, budget)
        _copy_together(plan, image, budget)
    return _named(plan, wheels)


def _initial(images: Mapping[str, Sequence[str]], wheels: Mapping[str, PlannedWheel], big: int) -> _Plan:
    users: dict[str, set[str]] = {}
    for image, shas in images.items():
        for sha in shas:
            if sha not in wheels:
                raise PlanError(f"environment '{image}' names the wheel {sha}, of which name and size are not known")
            users.setdefault(sha, set()).add(image)
    plan = _Plan({sha: wheels[sha].size for sha in users})
    for sha, names in sorted(users.items()):
        if wheels[sha].size >= big:
            plan.singles.setdefault(frozenset(names), []).append(sha)
        else:
            plan.add(frozenset(names), [sha])
    return plan


def _join_same_users(plan: _Plan, image: str, budget: int) -> None:
    """Move the smallest big wheels of ``image`` into the groups of their users until the budget holds or
    none is left."""
    while plan.layers_of(image) > budget:
        candidates = [
            (plan.sizes[sha], sha, users)
            for users, shas in plan.singles.items()
            if image in users and len(shas) + (users in plan.groups) > 1
            for sha in shas
        ]
        if not candidates:
            return
        _, sha, users = min(candidates, key=lambda item: item[:2])
        plan.singles[users].remove(sha)
        plan.add(users, [sha])


def _copy_together(plan: _Plan, image: str, budget: int) -> None:
    """Copy the smallest layers of ``image`` into its private group until the budget holds."""
    private: _Users = frozenset([image])
    while plan.layers_of(image) > budget:
        candidates = [
            (sum(plan.sizes[sha] for sha in shas), sorted(users), users, tuple(sorted(shas)), is_group)
            for is_group, layers in ((True, _group_layers(plan)), (False, _single_layers(plan)))
            for users, shas in layers
            if image in users and (users != private or not is_group)
        ]
        _, _, users, shas, is_group = min(candidates, key=lambda item: (item[0], item[1], item[3]))
        if is_group:
            del plan.groups[users]
            plan.add(users - private, shas)
        else:
            plan.singles[users].remove(shas[0])
            if users - private:
                plan.singles.setdefault(users - private, []).append(shas[0])
        plan.add(private, shas)


def _group_layers(plan: _Plan) -> list[tuple[_Users, list[str]]]:
    return [(users, sorted(shas)) for users, shas in plan.groups.items()]


def _single_layers(plan: _Plan) -> list[tuple[_Users, list[str]]]:
    return [(users, [sha]) for users, shas in plan.singles.items() for sha in shas]


def _named(plan: _Plan, wheels: Mapping[str, PlannedWheel]) -> list[Layer]:
    """Order and name the layers of ``plan``."""
    singles = sorted(
        _single_layers(plan),
        key=lambda item: (-len(item[0]), -plan.sizes[item[1][0]], wheels[item[1][0]].name, item[1]),
    )
    groups = sorted(_group_layers(plan), key=lambda item: (-len(item[0]), sorted(item[0])))
    everyone = frozenset().union(*(users for users, _ in [*singles, *groups]))
    drafts = [(f"{wheels[shas[0]].name}-{wheels[shas[0]].version}", users, shas) for users, shas in singles]
    drafts += [(_group_name(users, everyone), users, shas) for users, shas in groups]
    safe = [re.sub(r"[^A-Za-z0-9._-]", "_", name) for name, _, _ in drafts]
    counts = Counter(name.lower() for name in safe)
    return [
        Layer(
            name
            if counts[name.lower()] == 1 and name == draft
            else f"{name}-{_digest([draft, *sorted(users), *shas])}",
            tuple(shas),
            tuple(sorted(users)),
        )
        for name, (draft, users, shas) in zip(safe, drafts, strict=True)
    ]


def _group_name(users: _Users, everyone: _Users) -> str:
    if users == everyone and len(users) > 1:
        return "packages-common"
    if len(users) == 1:
        return f"packages-of-{next(iter(users))}"
    return f"packages-shared-{_digest(sorted(users))}"


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
