"""A plan that is being made, and how it is brought within the budget.

Everything that is compared here stays as it is when a wheel is bumped: names, users, counts, and sizes as far as
:func:`mfbazel.plan.model.size_class` tells them apart. So a bump decides nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mfbazel.plan.model import Origin, PlannedWheel, size_class

Users = frozenset[str]
_Pair = tuple["Slot", "Slot"]


@dataclass(frozen=True)
class Slot:
    """One layer of a draft: the images that have it, and what goes into it.

    Attributes:
        users: the images.
        origin: that of its wheels; of a mixture, the one that changes most often.
        alone: the key of the wheel that has the layer for itself; "" for a group.
    """

    users: Users
    origin: Origin
    alone: str = ""


@dataclass
class Draft:
    """The layers, and the wheels in them."""

    wheels: Mapping[str, PlannedWheel]
    big: int
    slots: dict[Slot, set[str]] = field(default_factory=dict)

    def add(self, slot: Slot, keys: Iterable[str]) -> None:
        """Put the wheels ``keys`` into ``slot``, if anyone uses it."""
        if slot.users:
            self.slots.setdefault(slot, set()).update(keys)

    def place(self, key: str, users: Users) -> None:
        """Put the wheel ``key`` where it belongs when there is room: alone when it is big or a target makes it."""
        wheel = self.wheels[key]
        alone = wheel.origin == Origin.TARGET or wheel.size >= self.big
        self.add(Slot(users, wheel.origin, key if alone else ""), [key])

    def of(self, image: str) -> list[Slot]:
        """Return the layers of ``image``, the lightest first."""
        return sorted((slot for slot in self.slots if image in slot.users), key=self.weight)

    def weight(self, slot: Slot) -> tuple[Any, ...]:
        """Return how heavy ``slot`` is, to be compared with others: by the size class of its largest wheel, then by the
        number of wheels."""
        single = self.wheels.get(slot.alone)
        return (
            self.size_class(slot),
            len(self.slots[slot]),
            slot.origin,
            sorted(slot.users),
            (single.name, single.version, slot.alone) if single else (),
        )

    def size_class(self, slot: Slot) -> int:
        """Return the size class of the largest wheel in ``slot``."""
        return max(size_class(self.wheels[key].size, self.big) for key in self.slots[slot])

    def fit(self, images: Collection[str], budget: int) -> None:
        """Merge layers until each of ``images`` has at most ``budget``."""
        for image in sorted(images):
            while len(slots := self.of(image)) > budget:
                self._merge(image, *min(_pairs(image, slots), key=self._cost))

    def join_equal(self, python: Mapping[str, str]) -> None:
        """Make one layer of groups that hold the same wheels, as copies for several images may.

        Args:
            python: by image; layers of different Pythons are never the same.
        """
        equal: dict[tuple[str, frozenset[str]], list[Slot]] = {}
        for slot, keys in self.slots.items():
            equal.setdefault((python[min(slot.users)], frozenset(keys)), []).append(slot)
        for (_, wheels), slots in equal.items():
            if len(slots) > 1:
                for slot in slots:
                    del self.slots[slot]
                users = frozenset(image for slot in slots for image in slot.users)
                self.add(Slot(users, slots[0].origin), wheels)

    def _cost(self, pair: _Pair) -> tuple[Any, ...]:
        """Return what merging ``pair`` costs, to be compared with others.

        Each four times of size count two. That bytes are stored again counts three: copying small wheels is dearer than
        a wheel of up to 16 MiB that goes along with every bump of its group, and cheaper than one that is larger.
        """
        one, two = pair
        targets = (one.origin == Origin.TARGET, two.origin == Origin.TARGET)
        copied = one.users != two.users
        size = 2 * max(map(self.size_class, pair))
        cost = size + 3 * copied + (one.origin != two.origin)
        return (targets[0] != targets[1], cost, all(targets), self.weight(one), self.weight(two))

    def _merge(self, image: str, one: Slot, two: Slot) -> None:
        """Make one layer of two: for all who use both, or, where these differ, as a copy for ``image`` alone."""
        users = one.users if one.users == two.users else frozenset([image])
        for slot in (one, two):
            keys = self.slots.pop(slot)
            self.add(Slot(slot.users - users, slot.origin, slot.alone), keys)
            self.add(Slot(users, max(one.origin, two.origin)), keys)


def _pairs(image: str, slots: Sequence[Slot]) -> Iterator[_Pair]:
    """Yield the pairs of ``slots``, the layers of ``image``, that come into question: the lightest with the same users,
    and the lightest of all. A group that is there takes what is merged."""
    private = frozenset([image])
    pools: list[list[Slot]] = [[], []]
    for slot in slots:
        pools[slot.origin == Origin.TARGET].append(slot)
    for pool in pools:
        for users in {slot.users: None for slot in pool}:
            alike = [slot for slot in pool if slot.users == users]
            yield from _first_two(sorted(alike, key=lambda slot: slot.alone != ""))
        yield from _first_two(sorted(pool, key=lambda slot: slot.alone != "" or slot.users != private))
    yield from _first_two([pool[0] for pool in pools if pool])


def _first_two(slots: Sequence[Slot]) -> Iterator[_Pair]:
    if len(slots) > 1:
        yield slots[0], slots[1]
