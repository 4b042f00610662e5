"""The planner's promises as functions that fail where one is broken, and locks to try them on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from hypothesis import strategies as st

from mfbazel.plan import BUDGET, Layer, Origin, PlannedWheel, plan_layers, size_class

BIG = 50
"""What counts as big here; the size classes begin at 50, 200, 800 (huge) and 3200."""

_STEPS = ["start", "train", "Train", "évaluer", "end", "plot"]
_DISTRIBUTIONS = ["numpy", "scipy", "torch", "boto3", "six", "rich", "acme", "attrs", "pip"]

Planner = Callable[..., list[Layer]]


@dataclass(frozen=True)
class Made:
    """A lock on one platform, as the planner sees it."""

    environments: Mapping[str, Sequence[str]]
    wheels: Mapping[str, PlannedWheel]
    pythons: Mapping[str, str]

    def plan(self, budget: int = BUDGET, planner: Planner = plan_layers) -> list[Layer]:
        return planner(self.environments, self.wheels, pythons=self.pythons, budget=budget, big=BIG)

    def users(self, key: str, python: str) -> frozenset[str]:
        """Return the environments of ``python`` that have the wheel ``key``."""
        return frozenset(
            name for name, keys in self.environments.items() if key in keys and self.pythons[name] == python
        )

    def bumped(self, key: str, version: str, size: int) -> tuple[str, Made]:
        """Return the key of another wheel of the same distribution, and the lock with it wherever ``key`` was."""
        new = sha(f"{key} {version} {size}")
        wheels = {**self.wheels, new: replace(self.wheels[key], version=version, size=size)}
        del wheels[key]
        environments = {
            name: sorted(new if item == key else item for item in keys) for name, keys in self.environments.items()
        }
        return new, Made(environments, wheels, self.pythons)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def made(environments: Mapping[str, str], **sizes: int) -> Made:
    """Make a lock of ``environments`` (name: distributions) whose wheels have ``sizes``."""
    wheels = {sha(name): PlannedWheel(name, "1.0", size) for name, size in sizes.items()}
    keys = {name: [sha(item) for item in text.split()] for name, text in environments.items()}
    return Made(keys, wheels, dict.fromkeys(environments, "3.14"))


@st.composite
def locks(draw: st.DrawFn) -> Made:
    """Locks with up to three wheels of each distribution, of which an environment has one at most."""
    wheels: dict[str, PlannedWheel] = {}
    variants: dict[str, list[str]] = {}
    for name in draw(st.lists(st.sampled_from(_DISTRIBUTIONS), unique=True)):
        origin = draw(st.sampled_from([Origin.INDEX, *Origin]))
        for number in range(draw(st.integers(1, 3))):
            size = 0 if origin == Origin.TARGET else draw(sizes())
            key = f"//libs/{name}:{number}" if origin == Origin.TARGET else sha(f"{name} {number}")
            wheels[key] = PlannedWheel(name, f"1.{number // 2}+local", size, origin)
            variants.setdefault(name, []).append(key)
    environments: dict[str, list[str]] = {}
    pythons: dict[str, str] = {}
    for step in draw(st.lists(st.sampled_from(_STEPS), min_size=1, unique=True)):
        pythons[step] = draw(st.sampled_from(["3.14", "3.14", "3.12"]))
        like = draw(st.sampled_from([None, *environments]))
        names = draw(st.lists(st.sampled_from(sorted(variants)), unique=True)) if variants else []
        chosen = [draw(st.sampled_from([variants[name][0], *variants[name]])) for name in names]
        environments[step] = environments[like] if like else chosen
    return Made(environments, wheels, pythons)


def sizes() -> st.SearchStrategy[int]:
    """Sizes of all classes."""
    return st.one_of(st.integers(0, BIG - 1), st.integers(BIG, 4 * BIG - 1), st.integers(0, 100 * BIG))


@st.composite
def bumps(draw: st.DrawFn) -> tuple[Made, str, int]:
    """Locks, a wheel in use, and a size of the same class as its own."""
    lock = draw(locks().filter(lambda lock: any(lock.environments.values())))
    key = draw(st.sampled_from(sorted({key for keys in lock.environments.values() for key in keys})))
    same = size_class(lock.wheels[key].size, BIG)
    if lock.wheels[key].origin == Origin.TARGET:
        return lock, key, 0
    low = BIG * 4 ** (same - 1) if same else 0
    return lock, key, draw(st.integers(low, BIG * 4**same - 1))


def every_image_has_its_wheels_once(lock: Made, layers: Sequence[Layer]) -> None:
    """So no wheel is missing or twice, and no layer holds what a step must not see."""
    for name, keys in lock.environments.items():
        assert sorted(key for layer in layers if name in layer.environments for key in layer.wheels) == sorted(keys)


def no_image_is_over_the_budget(lock: Made, layers: Sequence[Layer], budget: int) -> None:
    for name in lock.environments:
        assert sum(name in layer.environments for layer in layers) <= budget


def a_layer_is_one_blob(lock: Made, layers: Sequence[Layer]) -> None:
    """Its images have one Python, it is not empty, and none is there twice."""
    for layer in layers:
        assert layer.wheels
        assert len({lock.pythons[name] for name in layer.environments}) == 1
    assert len({(layer.wheels, lock.pythons[layer.environments[0]]) for layer in layers}) == len(layers)


def equal_images_have_equal_layers(lock: Made, layers: Sequence[Layer]) -> None:
    seen: dict[tuple[str, frozenset[str]], list[str]] = {}
    for name, keys in lock.environments.items():
        stack = [layer.name for layer in layers if name in layer.environments]
        assert seen.setdefault((lock.pythons[name], frozenset(keys)), stack) == stack


def volatile_is_on_top(lock: Made, layers: Sequence[Layer]) -> None:
    """Huge wheels are at the bottom, then big ones, then groups; then what is not of an index, in the same way."""
    ranks = []
    for layer in layers:
        wheels = [lock.wheels[key] for key in layer.wheels]
        origin = max(wheel.origin for wheel in wheels)
        size = size_class(wheels[0].size, BIG) if len(wheels) == 1 else 0
        huge = size >= 3 and origin != Origin.TARGET
        ranks.append((not huge, origin, size == 0 and origin != Origin.TARGET))
    assert ranks == sorted(ranks)


def with_room_groups_are_those_of_the_same_steps(lock: Made, layers: Sequence[Layer]) -> None:
    """Big wheels are alone, small ones with those of the same origin that exactly the same steps use."""
    expected = set()
    groups: dict[tuple[frozenset[str], Origin], set[str]] = {}
    for key, wheel in lock.wheels.items():
        for python in sorted(set(lock.pythons.values())):
            users = lock.users(key, python)
            if users and (wheel.size >= BIG or wheel.origin == Origin.TARGET):
                expected.add((frozenset([key]), users))
            elif users:
                groups.setdefault((users, wheel.origin), set()).add(key)
    expected |= {(frozenset(keys), users) for (users, _), keys in groups.items()}
    assert {(frozenset(layer.wheels), frozenset(layer.environments)) for layer in layers} == expected


def a_bump_changes_only_its_own(
    lock: Made, layers: Sequence[Layer], bumped: Sequence[Layer], old: str, new: str
) -> None:
    """Layer by layer the plan is the same, but that ``new`` stands for ``old``. Names of layers without it stay, too,
    except of other wheels of the same distribution: of two with one version, both names get a digest."""
    name = lock.wheels[old].name
    assert len(layers) == len(bumped)
    for before, after in zip(layers, bumped, strict=True):
        assert before.environments == after.environments
        assert {new if key == old else key for key in before.wheels} == set(after.wheels)
        if old not in before.wheels and name not in {lock.wheels[key].name for key in before.wheels}:
            assert before == after


def images_stack_what_they_share_alike(lock: Made, stacks: Mapping[str, Sequence[tuple[str, ...]]]) -> None:
    """``stacks``: the layers of each image from the bottom to the top. All fit into one order."""
    above: dict[tuple[str, tuple[str, ...]], set[tuple[str, tuple[str, ...]]]] = {}
    for name, stack in stacks.items():
        for lower, upper in pairwise(stack):
            above.setdefault((lock.pythons[name], lower), set()).add((lock.pythons[name], upper))
    done: set[tuple[str, tuple[str, ...]]] = set()

    def visit(layer: tuple[str, tuple[str, ...]], path: Sequence[tuple[str, tuple[str, ...]]]) -> None:
        assert layer not in path, "two images stack the same layers in different orders"
        if layer not in done:
            for upper in sorted(above.get(layer, ())):
                visit(upper, [*path, layer])
            done.add(layer)

    for layer in sorted(above):
        visit(layer, [])


def stacks_of(lock: Made, layers: Sequence[Layer]) -> dict[str, list[tuple[str, ...]]]:
    return {name: [layer.wheels for layer in layers if name in layer.environments] for name in lock.environments}
