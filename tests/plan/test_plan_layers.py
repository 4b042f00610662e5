"""The planner's promises, for any lock; and that each of them can be broken."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfbazel.plan import BUDGET, MOST_LAYERS, Layer, Origin, PlanError, PlannedWheel, plan_layers, size_class
from tests.plan import promises
from tests.plan.promises import BIG, Made, bumps, locks, made, sha

budgets = st.integers(1, 12)


@given(lock=locks(), budget=budgets)
@settings(max_examples=100, deadline=None)
def test_every_image_has_its_own_wheels_once_and_at_most_budget_layers(lock: Made, budget: int) -> None:
    layers = lock.plan(budget)
    promises.every_image_has_its_wheels_once(lock, layers)
    promises.no_image_is_over_the_budget(lock, layers, budget)


@given(lock=locks(), budget=budgets)
@settings(max_examples=100, deadline=None)
def test_each_layer_is_one_blob_and_equal_images_have_equal_layers(lock: Made, budget: int) -> None:
    layers = lock.plan(budget)
    promises.a_layer_is_one_blob(lock, layers)
    promises.equal_images_have_equal_layers(lock, layers)


@given(lock=locks(), budget=budgets)
@settings(max_examples=100, deadline=None)
def test_all_images_stack_what_they_share_in_one_order_with_what_is_volatile_on_top(lock: Made, budget: int) -> None:
    layers = lock.plan(budget)
    promises.images_stack_what_they_share_alike(lock, promises.stacks_of(lock, layers))
    promises.volatile_is_on_top(lock, layers)


@given(lock=locks())
@settings(max_examples=100, deadline=None)
def test_with_room_big_wheels_are_alone_and_small_ones_with_those_of_the_same_steps(lock: Made) -> None:
    promises.with_room_groups_are_those_of_the_same_steps(lock, lock.plan(MOST_LAYERS))


@given(bump=bumps(), budget=budgets)
@settings(max_examples=200, deadline=None)
def test_a_bump_within_its_size_class_changes_only_the_layers_that_hold_the_wheel(
    bump: tuple[Made, str, int], budget: int
) -> None:
    lock, key, size = bump
    new, other = lock.bumped(key, "9.9", size)
    promises.a_bump_changes_only_its_own(lock, lock.plan(budget), other.plan(budget), key, new)


@given(bump=bumps(), size=promises.sizes())
@settings(max_examples=200, deadline=None)
def test_where_no_image_is_over_the_budget_only_big_and_huge_count_as_classes(
    bump: tuple[Made, str, int], size: int
) -> None:
    lock, key, _ = bump
    was = lock.wheels[key]
    if was.origin != Origin.TARGET and [was.size >= BIG, was.size >= 16 * BIG] == [size >= BIG, size >= 16 * BIG]:
        new, other = lock.bumped(key, "9.9", size)
        promises.a_bump_changes_only_its_own(lock, lock.plan(MOST_LAYERS), other.plan(MOST_LAYERS), key, new)


@given(lock=locks(), budget=budgets, seed=st.integers())
@settings(deadline=None)
def test_the_plan_is_a_function_of_the_lock_whatever_the_order_of_its_parts(lock: Made, budget: int, seed: int) -> None:
    shuffle = random.Random(seed)
    again = Made(
        {
            name: shuffle.sample(lock.environments[name], len(lock.environments[name]))
            for name in shuffle.sample(sorted(lock.environments), len(lock.environments))
        },
        {key: lock.wheels[key] for key in shuffle.sample(sorted(lock.wheels), len(lock.wheels))},
        lock.pythons,
    )
    assert again.plan(budget) == lock.plan(budget)


@given(lock=locks(), budget=budgets)
@settings(deadline=None)
def test_layer_names_are_unique_and_safe_as_file_names(lock: Made, budget: int) -> None:
    names = [layer.name for layer in lock.plan(budget)]
    assert len({name.lower() for name in names}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) for name in names)


FLOW = made(
    {"start": "boto3 six", "train": "boto3 six numpy rich torch attrs", "end": "boto3 six numpy"},
    torch=4000, numpy=190, boto3=100, six=3, rich=2, attrs=1,
)  # fmt: skip


def check(lock: Made, layers: Sequence[Layer]) -> None:
    """Check every promise about one plan."""
    promises.every_image_has_its_wheels_once(lock, layers)
    promises.no_image_is_over_the_budget(lock, layers, BUDGET)
    promises.a_layer_is_one_blob(lock, layers)
    promises.equal_images_have_equal_layers(lock, layers)
    promises.volatile_is_on_top(lock, layers)
    promises.with_room_groups_are_those_of_the_same_steps(lock, layers)


def _without_last_wheel(layers: list[Layer]) -> list[Layer]:
    return [*layers[:-1], replace(layers[-1], wheels=layers[-1].wheels[:-1])]


def _seen_by_all(layers: list[Layer]) -> list[Layer]:
    return [replace(layer, environments=("end", "start", "train")) for layer in layers]


def _copied(layers: list[Layer]) -> list[Layer]:
    first = layers[0]
    return [first, replace(first, wheels=first.wheels, environments=("start",)), *layers[1:]]


def _one_layer_per_wheel(layers: list[Layer]) -> list[Layer]:
    return [replace(layer, wheels=(key,)) for layer in layers for key in layer.wheels]


BROKEN: dict[str, Callable[[list[Layer]], list[Layer]]] = {
    "a wheel is missing": _without_last_wheel,
    "a step sees what another one uses": _seen_by_all,
    "a layer is there twice": _copied,
    "what is volatile is at the bottom": lambda layers: layers[::-1],
    "small wheels are not grouped": _one_layer_per_wheel,
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_plan_that_breaks_a_promise_is_found_out(broken: str) -> None:
    check(FLOW, FLOW.plan())
    with pytest.raises(AssertionError):
        check(FLOW, BROKEN[broken](FLOW.plan()))


def _by_exact_size(environments: Any, wheels: Any, **options: Any) -> list[Layer]:
    layers = plan_layers(environments, wheels, **options)
    return sorted(layers, key=lambda layer: -max(wheels[key].size for key in layer.wheels))


def test_an_order_by_exact_size_is_found_out_by_a_bump() -> None:
    lock = made({"a": "numpy scipy"}, numpy=100, scipy=110)
    key = sha("numpy")
    for planner, stable in ((plan_layers, True), (_by_exact_size, False)):
        new, other = lock.bumped(key, "2.0", 120)
        plans = lock.plan(planner=planner), other.plan(planner=planner)
        if stable:
            promises.a_bump_changes_only_its_own(lock, *plans, key, new)
        else:
            with pytest.raises(AssertionError):
                promises.a_bump_changes_only_its_own(lock, *plans, key, new)


def test_images_that_stack_alike_layers_differently_are_found_out() -> None:
    stacks = promises.stacks_of(FLOW, FLOW.plan())
    promises.images_stack_what_they_share_alike(FLOW, stacks)
    with pytest.raises(AssertionError, match="different orders"):
        promises.images_stack_what_they_share_alike(FLOW, {**stacks, "end": stacks["end"][::-1]})


def test_a_bump_over_the_threshold_moves_the_wheel() -> None:
    """The precondition of what is promised about bumps is needed."""
    lock = made({"a": "numpy six rich"}, numpy=49, six=1, rich=1)
    new, other = lock.bumped(sha("numpy"), "2.0", BIG)
    assert [set(layer.wheels) for layer in other.plan()] == [{new}, {sha("six"), sha("rich")}]
    with pytest.raises(AssertionError):
        promises.a_bump_changes_only_its_own(lock, lock.plan(), other.plan(), sha("numpy"), new)


def test_what_more_images_use_is_further_down() -> None:
    lock = made({"a": "numpy aaa six rich", "b": "numpy six"}, numpy=90, aaa=99, six=1, rich=2)
    names = [layer.name for layer in lock.plan()]
    assert names == ["numpy-1.0", "aaa-1.0", "packages-common", "packages-of-a"]


def test_huge_wheels_are_below_smaller_ones_that_more_images_use() -> None:
    lock = made({"a": "numpy torch", "b": "numpy"}, numpy=799, torch=800)
    assert [layer.name for layer in lock.plan()] == ["torch-1.0", "numpy-1.0"]


def test_wheels_of_the_same_steps_stay_together_so_that_these_steps_share_a_chain() -> None:
    lock = made({"a": "m n o", "b": "m o", "c": "n"}, m=90, n=90, o=90)
    assert [layer.name for layer in lock.plan()] == ["m-1.0", "o-1.0", "n-1.0"]


def test_what_no_index_has_is_apart_and_further_up_and_what_targets_make_on_top() -> None:
    lock = made(
        {"a": "six attrs fork forks vendored lib tool", "b": "six"}, six=1, attrs=2, vendored=90, forks=1, fork=1
    )
    origins = dict.fromkeys(("fork", "forks", "vendored"), Origin.SOURCE)
    origins |= dict.fromkeys(("lib", "tool"), Origin.TARGET)
    wheels = {sha(name): PlannedWheel(name, "1.0", 0) for name in ("lib", "tool")} | dict(lock.wheels)
    wheels = {key: replace(wheel, origin=origins.get(wheel.name, wheel.origin)) for key, wheel in wheels.items()}
    names = [layer.name for layer in replace(lock, wheels=wheels).plan()]
    assert names == ["packages-common", "packages-of-a", "vendored-1.0", "sources-of-a", "lib-1.0", "tool-1.0"]
    merged = replace(lock, wheels=wheels).plan(4)
    assert [layer.name for layer in merged] == ["packages-common", "vendored-1.0", "sources-of-a", "targets-of-a"]


def test_images_of_two_pythons_share_no_layer() -> None:
    lock = made({"a": "boto3 six", "b": "boto3 six", "c": "boto3 six rich"}, boto3=90, six=1, rich=1)
    lock = replace(lock, pythons={"a": "3.14", "b": "3.14", "c": "3.12"})
    found = {(len(layer.wheels), layer.environments) for layer in lock.plan()}
    assert found == {(1, ("a", "b")), (1, ("c",)), (2, ("c",))}


def test_the_launcher_is_no_image() -> None:
    wheels = {name: PlannedWheel(name, "1.0", 1) for name in ("metaflow", "six")}
    environments = {"_launcher": ["metaflow", "six"], "_build.x-1": ["metaflow"], "a": ["six"]}
    assert plan_layers(environments, wheels) == [Layer("packages-of-a", ("six",), ("a",))]


def names_in(lock: Made, layers: Sequence[Layer]) -> list[tuple[set[str], tuple[str, ...]]]:
    return [({lock.wheels[key].name for key in layer.wheels}, layer.environments) for layer in layers]


def test_over_budget_the_smallest_big_wheels_join_their_group_first() -> None:
    lock = made({"a": "numpy scipy pandas six"}, numpy=300, scipy=60, pandas=70, six=1)
    assert names_in(lock, lock.plan(2)) == [({"numpy"}, ("a",)), ({"scipy", "pandas", "six"}, ("a",))]


def test_over_budget_small_wheels_are_copied_before_a_wheel_of_more_than_16_mib_joins_a_group() -> None:
    lock = made({"a": "torch six rich", "b": "six"}, torch=200, six=1, rich=1)
    assert names_in(lock, lock.plan(2)) == [
        ({"torch"}, ("a",)),
        ({"six", "rich"}, ("a",)),
        ({"six"}, ("b",)),
    ]


def test_images_that_copy_the_same_wheels_share_the_copy() -> None:
    lock = made(
        {"a": "torch six rich", "b": "jax six rich", "c": "six", "d": "rich"}, torch=4000, jax=4000, six=1, rich=1
    )
    assert ({"six", "rich"}, ("a", "b")) in names_in(lock, lock.plan(2))


def test_a_budget_of_two_keeps_what_targets_make_apart() -> None:
    lock = made({"a": "torch numpy six lib"}, torch=4000, numpy=90, six=1)
    wheels = {**lock.wheels, sha("lib"): PlannedWheel("lib", "1.0", 0, Origin.TARGET)}
    lock = replace(lock, wheels=wheels)
    assert [names for names, _ in names_in(lock, lock.plan(2))] == [{"torch", "numpy", "six"}, {"lib"}]


@pytest.mark.parametrize(("size", "expected"), [(0, 0), (49, 0), (50, 1), (199, 1), (200, 2), (799, 2), (800, 3)])
def test_a_size_class_is_four_times_the_one_below(size: int, expected: int) -> None:
    assert size_class(size, BIG) == expected


@pytest.mark.parametrize("budget", [0, -1, MOST_LAYERS + 1])
def test_a_budget_out_of_range_is_refused_by_name_and_value(budget: int) -> None:
    with pytest.raises(
        PlanError, match=rf"attribute `budget`: {budget} layers per image is out of range; choose 1 to 100"
    ):
        plan_layers({}, {}, budget=budget)


def test_an_unknown_wheel_is_refused_by_environment() -> None:
    with pytest.raises(PlanError, match="environment 'train' names the wheel abc"):
        plan_layers({"train": ["abc"]}, {})
