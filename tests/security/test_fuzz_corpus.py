"""The inputs that fuzzing kept, and the ones that it began with: each is read, or refused, as it should be."""

from __future__ import annotations

import importlib
from pathlib import Path
from random import Random

import pytest

from fuzz.session import finding
from fuzz.targets.target import Target

CORPUS = Path(__file__).absolute().parents[2] / "fuzz" / "corpus"
TARGETS = ("layout", "lock", "metadata", "names", "registry", "tar", "wheel")
CHANGES = 40
"""Random changes of each seed: a session of fuzzing in a second or two."""


def target(name: str) -> Target:
    found: Target = importlib.import_module(f"fuzz.targets.{name}").TARGET
    return found


@pytest.mark.parametrize("name", TARGETS)
def test_what_fuzzing_kept_is_read_or_refused(name: str) -> None:
    files = sorted((CORPUS / name).iterdir())
    assert files, "the corpus is gone"
    for file in files:
        outcome, found = finding(target(name), file.read_bytes())
        assert found is None, (file.name, outcome, found)


@pytest.mark.parametrize("name", TARGETS)
def test_changed_seeds_are_read_or_refused(name: str) -> None:
    chosen, random = target(name), Random(1)
    assert chosen.mutate
    for seed in chosen.seeds():
        data = seed
        for _ in range(CHANGES):
            outcome, found = finding(chosen, data)
            assert found is None, (outcome, found, data)
            data = chosen.mutate(seed, random)


def test_both_outcomes_of_a_wheel_are_among_the_seeds() -> None:
    outcomes = {finding(target("wheel"), seed)[0] for seed in target("wheel").seeds()}
    assert {"layer", "refused, unsafe"} <= outcomes
