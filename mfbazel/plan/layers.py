"""The planner.

Big wheels get a layer of their own, small ones share a layer with those that exactly the same images use. All images
take their layers from one list in one order: a runtime caches layers by chain, so images share what they have in common
only while they stack it alike. From the bottom to the top: huge wheels; big ones; groups of small ones, which change
whenever one of many does; what is checked in or built from source; what targets make, which any edit changes. Within
each, what more images use comes first.

Nothing depends on a version, a hash, or a size within its class: a bump changes the layers that hold the bumped wheel,
and no other. docs/design/layers.md says why it is so, and what it costs.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mfbazel.plan.draft import Draft, Slot
from mfbazel.plan.errors import PlanError
from mfbazel.plan.model import BIG, BUDGET, HUGE, Layer, Origin, PlannedWheel, check_budget

_PREFIXES = {Origin.INDEX: "packages", Origin.SOURCE: "sources", Origin.TARGET: "targets"}


def plan_layers(
    environments: Mapping[str, Sequence[str]],
    wheels: Mapping[str, PlannedWheel],
    *,
    pythons: Mapping[str, str] | None = None,
    budget: int = BUDGET,
    big: int = BIG,
) -> list[Layer]:
    """Plan the layers of all images on one platform.

    Args:
        environments: per environment the keys of its wheels; names that begin with ``_`` are no images and ignored.
        wheels: the wheels by key.
        pythons: per environment its Python, X.Y; where none is said all have the same. Images of different Pythons
            share no layer, since packages lie below ``lib/pythonX.Y``.
        budget: how many layers each image may have, 1 to :data:`MOST_LAYERS`.
        big: the size in bytes from which a wheel gets a layer of its own.

    Returns:
        The layers from the bottom to the top. An image consists of those that name its environment, in this order.
        Environments with equal wheels and Python have the same layers.

    Raises:
        PlanError: ``budget`` is out of range, or a wheel of an environment is not in ``wheels``.
    """
    check_budget(budget)
    images = _images(environments, wheels, pythons or {})
    users: dict[tuple[str, str], set[str]] = {}
    for image, (python, keys, _) in images.items():
        for key in keys:
            users.setdefault((python, key), set()).add(image)
    draft = Draft(wheels, big)
    for (_, key), names in users.items():
        draft.place(key, frozenset(names))
    draft.fit(images, budget)
    draft.join_equal({image: python for image, (python, _, _) in images.items()})
    return _named(draft, {image: names for image, (_, keys, names) in images.items() if keys})


def _images(
    environments: Mapping[str, Sequence[str]], wheels: Mapping[str, PlannedWheel], pythons: Mapping[str, str]
) -> dict[str, tuple[str, frozenset[str], list[str]]]:
    """Return Python, wheels and environments of each image, by the first of the environments that have it."""
    equal: dict[tuple[str, frozenset[str]], list[str]] = {}
    for name, keys in sorted(environments.items()):
        if name.startswith("_"):
            continue
        for key in keys:
            if key not in wheels:
                raise PlanError(f"environment '{name}' names the wheel {key}, of which name and size are not known")
        equal.setdefault((pythons.get(name, ""), frozenset(keys)), []).append(name)
    return {names[0]: (python, keys, names) for (python, keys), names in equal.items()}


def _named(draft: Draft, images: Mapping[str, Sequence[str]]) -> list[Layer]:
    """Order and name the layers of ``draft``; ``images``: their environments."""
    users = {slot: sorted(name for image in slot.users for name in images[image]) for slot in draft.slots}

    def position(slot: Slot) -> tuple[Any, ...]:
        single = draft.wheels.get(slot.alone)
        huge = single is not None and slot.origin != Origin.TARGET and draft.size_class(slot) >= HUGE
        wheel = (single.name, single.version, slot.alone) if single else ()
        return (not huge, slot.origin, single is None, -len(users[slot]), users[slot], wheel)

    everyone = sorted(name for names in images.values() for name in names)
    drafts = [
        (_name(slot, draft, users[slot], everyone), users[slot], sorted(draft.slots[slot]))
        for slot in sorted(draft.slots, key=position)
    ]
    safe = [re.sub(r"[^A-Za-z0-9._-]", "_", name) for name, _, _ in drafts]
    counts = Counter(name.lower() for name in safe)
    return [
        Layer(
            name if counts[name.lower()] == 1 and name == full else f"{name}-{_digest([full, *names, *keys])}",
            tuple(keys),
            tuple(names),
        )
        for name, (full, names, keys) in zip(safe, drafts, strict=True)
    ]


def _name(slot: Slot, draft: Draft, users: Sequence[str], everyone: Sequence[str]) -> str:
    single = draft.wheels.get(slot.alone)
    if single:
        return f"{single.name}-{single.version}"
    if len(users) == 1:
        return f"{_PREFIXES[slot.origin]}-of-{users[0]}"
    return f"{_PREFIXES[slot.origin]}-{'common' if users == everyone else f'shared-{_digest(users)}'}"


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
