"""uv and pip-tools give equal pins; where they do not, a reason counts only when it holds.

The first test asks the user's own index, as bench/lock_agreement.py does for many more sets.
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from mfbazel.lock.model import UV_GLIBCS, Pin, Platform
from mfbazel.lock.resolver.piptools import PipTools
from mfbazel.lock.resolver.request import Request, ResolverFailure
from mfbazel.lock.resolver.uv import Uv
from tests.lock.agreement import Comparison, compare
from tests.lock.wheelhouse import use_only, wheel

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
MACHINES = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in MACHINES, reason="pip-tools resolves for this machine only"
)


def request(*texts: str) -> Request:
    return Request(HERE, Platform.parse(MACHINES[platform.machine()]), glibc(), texts)


def glibc() -> str:
    own = int(platform.libc_ver()[1].split(".")[1])
    return max((text for text in UV_GLIBCS if int(text.split(".")[1]) <= own), key=lambda text: int(text.split(".")[1]))


@pytest.mark.parametrize(
    "texts", [["numpy", "pandas"], ["requests[socks]<2.33", "idna>=3"], ["fastapi", "rich"], ["alembic", "boto3"]]
)
def test_both_resolvers_choose_the_same_versions_on_the_users_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: list[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # the user's caches may be read-only here
    found = compare(request(*texts), Uv(), PipTools())
    assert found.differences == []
    assert found.equal
    assert found.uv.versions
    named = {re.split(r"[\[<>=]", text)[0] for text in texts}
    assert named <= set(found.uv.versions)


def test_both_resolvers_choose_the_same_versions_of_what_is_hard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Extras, markers, pre-releases, post-releases, epochs, local versions, and something newer that does not fit."""
    house = tmp_path / "wheelhouse"
    wheel(house, "app", "1.0", ["lib>=1", 'only; python_version < "3"', "extra-lib[fast]", "post", "epoch", "local"])
    wheel(house, "lib", "1.5")
    wheel(house, "lib", "2.0", ["base<2"])
    wheel(house, "lib", "3.0rc1")
    wheel(house, "base", "1.0")
    wheel(house, "base", "2.0")
    wheel(house, "extra_lib", "1.0", ['speed; extra == "fast"'])
    wheel(house, "speed", "0.1.dev1")
    wheel(house, "post", "1.0")
    wheel(house, "post", "1.0.post1")
    wheel(house, "epoch", "2024.1")
    wheel(house, "epoch", "1!1.0")
    wheel(house, "local", "1.0")
    wheel(house, "local", "1.0+cpu")
    use_only(house, tmp_path / "home", monkeypatch)
    found = compare(request("app", "base<2"), Uv(), PipTools())
    assert found.differences == []
    assert found.uv.versions == {
        "app": "1.0",
        "base": "1.0",
        "epoch": "1!1.0",
        "extra-lib": "1.0",
        "lib": "2.0",
        "local": "1.0+cpu",
        "post": "1.0.post1",
        "speed": "0.1.dev1",
    }


def test_a_real_difference_is_explained_by_asking_both_about_the_others_solution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest ``lib`` and the newest ``base`` do not go together, and nothing says which matters more."""
    house = tmp_path / "wheelhouse"
    wheel(house, "app", "1.0", ["lib>=1"])
    wheel(house, "lib", "1.5")
    wheel(house, "lib", "2.0", ["base<2"])
    wheel(house, "base", "1.0")
    wheel(house, "base", "2.0")
    use_only(house, tmp_path / "home", monkeypatch)
    found = compare(request("app", "base"), Uv(), PipTools())
    assert found.differences == ["base: uv 2.0, pip-tools 1.0", "lib: uv 1.5, pip-tools 2.0"]
    assert found.explanation == (
        "both are solutions, each resolver accepts that of the other: uv has base newer; pip-tools has lib newer"
    )


class Fixed:
    """A resolver that has one solution, or accepts what it is pinned to when that is among ``accepted``."""

    def __init__(self, *answers: Mapping[str, str] | None, accepted: Sequence[Mapping[str, str]] = ()) -> None:
        self._answers = list(answers)
        self._accepted = accepted

    def pins(self, request: Request) -> dict[str, Pin]:
        pinned = dict(text.split("==") for text in request.constraints)
        versions: Mapping[str, str] | None
        if pinned:
            versions = pinned if pinned in self._accepted else None
        else:
            versions = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if versions is None:
            raise ResolverFailure("No solution found: x")
        return {name: Pin(name, version) for name, version in versions.items()}


A, B, EARLY = {"x": "1.0", "y": "2.0"}, {"x": "1.1", "y": "1.0"}, {"x": "1.0", "y": "2.1rc1"}


def compared(uv: Fixed, pip: Fixed) -> Comparison:
    return compare(request("x", "y"), uv, pip)


def test_a_trade_between_two_solutions_is_explained_when_each_accepts_the_others() -> None:
    found = compared(Fixed(A, accepted=[B]), Fixed(B, accepted=[A]))
    assert found.differences == ["x: uv 1.0, pip-tools 1.1", "y: uv 2.0, pip-tools 1.0"]
    assert found.explanation == (
        "both are solutions, each resolver accepts that of the other: uv has y newer; pip-tools has x newer"
    )


def test_a_version_that_was_given_up_without_need_is_explained_as_that() -> None:
    less = {"x": "1.0", "y": "1.9"}
    found = compared(Fixed(A, accepted=[less]), Fixed(less, accepted=[A]))
    assert found.explanation == (
        "both are solutions, each resolver accepts that of the other: "
        "uv has y newer, which the other gave up while it searched"
    )


def test_what_one_resolver_does_not_accept_is_not_explained_away() -> None:
    for uv, pip in [([B], []), ([], [A]), ([], [])]:
        assert compared(Fixed(A, accepted=uv), Fixed(B, accepted=pip)).explanation == ""


def test_a_pre_release_that_one_resolver_takes_is_named() -> None:
    found = compared(Fixed(A), Fixed(EARLY, accepted=[A]))
    assert found.explanation == (
        "pre-releases are taken by one resolver only (y: uv 2.0, pip-tools 2.1rc1); pip-tools accepts both solutions"
    )


def test_an_index_that_changed_in_between_is_found_out_by_asking_again() -> None:
    assert "the index changed" in compared(Fixed(A, B), Fixed(B)).explanation


def test_a_solution_of_one_resolver_alone_is_not_explained() -> None:
    found = compared(Fixed(None), Fixed(A))
    assert (found.equal, found.explanation, found.uv.failure) == (False, "", "No solution found: x")
    assert compared(Fixed(None), Fixed(None)).equal


def test_a_resolver_that_fails_for_another_reason_has_not_answered() -> None:
    class Broken:
        def pins(self, request: Request) -> dict[str, Pin]:
            raise ResolverFailure(f"Read-only file system: {request.python}")

    for uv, pip in ((Broken(), Fixed(A)), (Fixed(A), Broken()), (Broken(), Broken())):
        with pytest.raises(ResolverFailure, match="Read-only file system"):
            compare(request("x"), uv, pip)
