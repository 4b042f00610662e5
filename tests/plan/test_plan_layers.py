"""The planner's promises, for any environments."""

from __future__ import annotations

import hashlib
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfbazel.plan import MOST_LAYERS, Layer, PlanError, PlannedWheel, plan_layers

Environments = dict[str, list[str]]
Wheels = dict[str, PlannedWheel]


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def wheels_of(**sizes: int) -> Wheels:
    return {sha(name): PlannedWheel(name, "1.0", size) for name, size in sizes.items()}


@st.composite
def locks(draw: st.DrawFn) -> tuple[Environments, Wheels]:
    names = draw(
        st.lists(st.sampled_from(["start", "train", "Train", "évaluer", "end", "plot"]), min_size=1, unique=True)
    )
    count = draw(st.integers(0, 12))
    wheels = {
        sha(f"w{index}"): PlannedWheel(f"w{index // 2}", f"{index % 3}+local!{index % 2}", draw(st.integers(0, 100)))
        for index in range(count)
    }
    chosen = st.lists(st.sampled_from(sorted(wheels)), unique=True) if wheels else st.just([])
    return {name: draw(chosen) for name in names}, wheels


def image(layers: list[Layer], name: str) -> list[str]:
    return [wheel for layer in layers if name in layer.environments for wheel in layer.wheels]


@given(lock=locks(), budget=st.integers(1, 12), big=st.integers(1, 100))
@settings(max_examples=300, deadline=None)
def test_every_image_has_its_own_wheels_once_and_at_most_budget_layers(
    lock: tuple[Environments, Wheels], budget: int, big: int
) -> None:
    environments, wheels = lock
    layers = plan_layers(environments, wheels, budget=budget, big=big)
    for name, shas in environments.items():
        assert sorted(image(layers, name)) == sorted(shas)
        assert sum(name in layer.environments for layer in layers) <= budget


@given(lock=locks(), budget=st.integers(1, 12), seed=st.integers())
@settings(deadline=None)
def test_the_order_of_the_input_changes_nothing(lock: tuple[Environments, Wheels], budget: int, seed: int) -> None:
    environments, wheels = lock
    shuffle = random.Random(seed)
    again: Environments = {}
    for name in shuffle.sample(sorted(environments), len(environments)):
        again[name] = shuffle.sample(environments[name], len(environments[name]))
    mixed = {key: wheels[key] for key in shuffle.sample(sorted(wheels), len(wheels))}
    assert plan_layers(again, mixed, budget=budget, big=50) == plan_layers(environments, wheels, budget=budget, big=50)


@given(lock=locks(), budget=st.integers(1, 12))
@settings(deadline=None)
def test_layer_names_are_unique_and_safe_as_file_names(lock: tuple[Environments, Wheels], budget: int) -> None:
    layers = plan_layers(*lock, budget=budget, big=50)
    names = [layer.name for layer in layers]
    assert len({name.lower() for name in names}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) for name in names)


@given(lock=locks())
@settings(deadline=None)
def test_no_layer_is_empty_or_unused_and_none_is_planned_twice(lock: tuple[Environments, Wheels]) -> None:
    layers = plan_layers(*lock, budget=2, big=50)
    assert all(layer.wheels and layer.environments for layer in layers)
    assert len({(layer.wheels, layer.environments) for layer in layers}) == len(layers)


@given(lock=locks())
@settings(deadline=None)
def test_with_room_big_wheels_are_alone_and_below_all_groups_and_no_wheel_is_copied(
    lock: tuple[Environments, Wheels],
) -> None:
    environments, wheels = lock
    layers = plan_layers(environments, wheels, budget=MOST_LAYERS, big=50)
    sizes = [[wheels[wheel].size for wheel in layer.wheels] for layer in layers]
    alone = [len(size) == 1 and size[0] >= 50 for size in sizes]
    assert all(single or max(size) < 50 for single, size in zip(alone, sizes, strict=True))
    assert alone == sorted(alone, reverse=True)
    everything = [wheel for layer in layers for wheel in layer.wheels]
    assert len(everything) == len(set(everything))


def test_what_more_images_use_is_further_down() -> None:
    wheels = wheels_of(numpy=90, torch=99, six=1, rich=2)
    numpy, torch, six, rich = wheels
    layers = plan_layers({"a": [numpy, torch, six, rich], "b": [numpy, six]}, wheels, big=50)
    assert [layer.name for layer in layers] == ["numpy-1.0", "torch-1.0", "packages-common", "packages-of-a"]


def test_the_launcher_is_no_image() -> None:
    wheels = wheels_of(metaflow=9, six=1)
    metaflow, six = wheels
    layers = plan_layers({"_launcher": [metaflow, six], "_build.x-1": [metaflow], "a": [six]}, wheels)
    assert layers == [Layer("packages-of-a", (six,), ("a",))]


def test_over_budget_the_smallest_big_wheels_join_their_group_first() -> None:
    wheels = wheels_of(numpy=90, scipy=80, pandas=70, six=1)
    numpy, scipy, pandas, six = wheels
    layers = plan_layers({"a": list(wheels)}, wheels, budget=2, big=50)
    assert [set(layer.wheels) for layer in layers] == [{numpy}, {scipy, pandas, six}]


@pytest.mark.parametrize("budget", [0, -1, MOST_LAYERS + 1])
def test_a_budget_out_of_range_is_refused_by_name_and_value(budget: int) -> None:
    with pytest.raises(
        PlanError, match=rf"attribute `budget`: {budget} layers per image is out of range; choose 1 to 100"
    ):
        plan_layers({}, {}, budget=budget)


def test_an_unknown_wheel_is_refused_by_environment() -> None:
    with pytest.raises(PlanError, match="environment 'train' names the wheel abc"):
        plan_layers({"train": ["abc"]}, {})
