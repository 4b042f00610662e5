"""Which versions stay when others come: preferences of an old lock, of another platform, and of the launcher."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mfbazel.lock.model import Platform
from mfbazel.lock.resolver.request import Request
from mfbazel.lock.resolver.uv import Uv
from tests.lock.index_server import Fault, Index, forget_configuration, running
from tests.lock.wheelhouse import wheel

AMD64 = Platform("amd64")


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """A client library and its core, of which the newest need a newer Python, and the oldest limits nothing."""
    forget_configuration(tmp_path / "home", monkeypatch)
    with running(tmp_path / "wheels") as served:
        monkeypatch.setenv("PIP_INDEX_URL", served.url())
        wheel(served.directory, "client", "9.0", ("core==9.0",), python=">=3.10")
        wheel(served.directory, "client", "8.0", ("core==8.0",))
        wheel(served.directory, "client", "0.1", ("core",))
        wheel(served.directory, "client", "0.0.1")
        wheel(served.directory, "core", "9.0", python=">=3.10")
        wheel(served.directory, "core", "8.0")
        wheel(served.directory, "core", "0.1")
        wheel(served.directory, "user", "2.0", ("client<9",))
        wheel(served.directory, "user", "1.0")
        yield served


def versions(
    *wanted: str, kept: dict[str, str] | None = None, python: str = "3.12", said: list[str] | None = None
) -> dict[str, str]:
    lines: list[str] = [] if said is None else said
    uv = Uv(dict(os.environ), lines.append)
    pins = uv.pins(Request(python, AMD64, "2.28", wanted, preferences=kept or {}))
    return {name: pin.version for name, pin in pins.items()}


@pytest.mark.parametrize("kept", [{}, {"client": "9.0", "core": "9.0"}, {"core": "9.0"}])
def test_a_step_with_an_older_python_gets_the_newest_that_fits_whatever_the_launcher_has(
    kept: dict[str, str],
) -> None:
    assert versions("client", python="3.9", kept=kept) == {"client": "8.0", "core": "8.0"}
    assert versions("client", python="3.12", kept=kept) == {"client": "9.0", "core": "9.0"}


def test_a_preference_holds_nothing_else_back() -> None:
    assert versions("user", "client", kept={"client": "9.0", "core": "9.0"}) == {
        "user": "2.0",
        "client": "8.0",
        "core": "8.0",
    }


def test_what_still_fits_is_kept() -> None:
    assert versions("client", kept={"client": "8.0", "core": "8.0"}) == {"client": "8.0", "core": "8.0"}
    assert versions("client", "user", kept={"client": "0.1", "core": "8.0"}) == {
        "client": "0.1",
        "core": "8.0",
        "user": "2.0",
    }


def test_a_yanked_release_is_not_newly_chosen_but_kept_and_that_is_said(index: Index) -> None:
    index.faults.append(Fault("/simple/client/", "yank", file=r"client-9\.0.*"))
    assert versions("client") == {"client": "8.0", "core": "8.0"}
    said: list[str] = []
    assert versions("client", said=said, kept={"client": "9.0", "core": "9.0"}) == {"client": "9.0", "core": "9.0"}
    assert said == [
        'warning: `client==9.0` is yanked (reason: "broken"); it is kept because it was locked before, or is required'
    ]


def test_a_release_that_was_deleted_is_replaced_and_that_is_said(index: Index) -> None:
    (index.directory / "client-9.0-py3-none-any.whl").unlink()
    said: list[str] = []
    assert versions("client", said=said, kept={"client": "9.0", "core": "9.0"}) == {"client": "8.0", "core": "8.0"}
    assert said == ["warning: client 9.0, which was locked, is on no index any more"]
