"""Wheels are asked for once, several resolutions together, and a failure stays with the one whose pin it is."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mfbazel.lock.model import Pin, Platform
from mfbazel.lock.resolver.finder import WheelFinder
from mfbazel.lock.resolver.request import Request, ResolverFailure
from mfbazel.lock.resolver.uv import FoundWheel, Uv
from tests.lock.wheelhouse import use_only, wheel

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
REQUEST = Request(HERE, Platform("amd64"), "2.28", ())


class CountedUv(Uv):
    """uv, which notes what it is asked and waits at the first question until it is told to go on."""

    asked: list[dict[str, str]]
    go_on: threading.Event

    def wheels(self, request: Request, pins: Mapping[str, Pin]) -> dict[str, FoundWheel]:
        """Note ``pins`` and find their wheels."""
        self.asked.append({name: pin.version for name, pin in pins.items()})
        if len(self.asked) == 1:
            self.go_on.wait(10)
        return super().wheels(request, pins)


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CountedUv:
    directory = tmp_path / "wheelhouse"
    for name in ("alpha", "beta", "gamma"):
        wheel(directory, name, "1.0")
        wheel(directory, name, "2.0")
    use_only(directory, tmp_path / "home", monkeypatch)
    made = CountedUv()
    object.__setattr__(made, "asked", [])
    object.__setattr__(made, "go_on", threading.Event())
    return made


def pins(**versions: str) -> dict[str, Pin]:
    return {name: Pin(name, version) for name, version in versions.items()}


def test_those_who_wait_are_answered_together_and_nothing_is_asked_twice(uv: CountedUv) -> None:
    finder = WheelFinder(uv)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(finder.wheels, REQUEST, pins(alpha="1.0"))
        while not uv.asked:
            pass
        others = [
            pool.submit(finder.wheels, REQUEST, pins(alpha="1.0", beta="1.0")),
            pool.submit(finder.wheels, REQUEST, pins(beta="1.0", gamma="2.0")),
        ]
        while len(finder._desks[next(iter(finder._desks))].wanted) < 2:
            pass
        uv.go_on.set()
        found = [{name: item.file for name, item in future.result().items()} for future in (first, *others)]
    assert found == [
        {"alpha": "alpha-1.0-py3-none-any.whl"},
        {"alpha": "alpha-1.0-py3-none-any.whl", "beta": "beta-1.0-py3-none-any.whl"},
        {"beta": "beta-1.0-py3-none-any.whl", "gamma": "gamma-2.0-py3-none-any.whl"},
    ]
    assert uv.asked == [{"alpha": "1.0"}, {"beta": "1.0", "gamma": "2.0"}]
    finder.wheels(REQUEST, pins(alpha="1.0", gamma="2.0"))
    assert len(uv.asked) == 2


def test_two_versions_of_one_distribution_are_each_found(uv: CountedUv) -> None:
    uv.go_on.set()
    finder = WheelFinder(uv)
    assert finder.wheels(REQUEST, pins(alpha="1.0"))["alpha"].version == "1.0"
    assert finder.wheels(REQUEST, pins(alpha="2.0", beta="2.0"))["alpha"].version == "2.0"


def test_who_asks_for_what_is_not_there_fails_alone(uv: CountedUv) -> None:
    uv.go_on.set()
    finder = WheelFinder(uv)
    with pytest.raises(ResolverFailure, match="gamma"):
        finder.wheels(REQUEST, pins(gamma="9.0"))
    assert finder.wheels(REQUEST, pins(alpha="1.0"))["alpha"].version == "1.0"
