"""The wheel that is locked is the one that the target's own installer takes: against packaging's tags and pip."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import packaging._manylinux
import packaging._musllinux
import packaging.tags
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename
from pip._internal.index.package_finder import CandidateEvaluator
from pip._internal.models.candidate import InstallationCandidate
from pip._internal.models.link import Link
from pip._internal.models.target_python import TargetPython
from pip._internal.models.wheel import Wheel

from mfbazel.lock.model import Platform
from mfbazel.lock.resolver.request import Request, ResolverFailure
from mfbazel.lock.resolver.uv import Uv, best_wheel
from tests.lock.index_server import Index, forget_configuration, running
from tests.lock.wheelhouse import wheel

PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
GLIBCS = ("2.17", "2.28", "2.31", "2.39")
PLATFORMS = {
    "x86_64": Platform("amd64"),
    "aarch64": Platform("arm64"),
}
LEGACY = ("manylinux1", "manylinux2010", "manylinux2014")
PLATFORM_TAGS = [
    f"{name}_{machine}"
    for machine in PLATFORMS
    for name in (*LEGACY, *(f"manylinux_2_{minor}" for minor in (4, 5, 12, 16, 17, 24, 27, 28, 31, 35, 39)), "linux")
] + ["any", "win_amd64", "macosx_11_0_arm64", "musllinux_1_2_x86_64"]
PYTHON_TAGS = [
    ("py3", "none"), ("py2.py3", "none"), ("py39", "none"), ("py312", "none"), ("cp312", "none"), ("cp39", "cp39"),
    ("cp312", "cp312"), ("cp313", "cp313"), ("cp313", "cp313t"), ("cp314", "cp314"), ("cp314", "cp314t"),
    ("cp38", "abi3"), ("cp311", "abi3"), ("cp313", "abi3"), ("cp32", "abi3"), ("cp27", "cp27mu"),
    ("pp310", "pypy310_pp73"),
]  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A machine that installs."""

    python: str
    machine: str
    glibc: str

    @property
    def tags(self) -> list[Tag]:
        return PLATFORMS[self.machine].tags(self.python, self.glibc)


def on_the_target(target: Target) -> list[Tag]:
    """Return the tags that packaging finds on ``target``."""
    version = tuple(map(int, target.python.split(".")))
    glibc = tuple(map(int, target.glibc.split(".")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sysconfig, "get_platform", lambda: f"linux-{target.machine}")
        patch.setattr(packaging._manylinux, "_get_glibc_version", lambda: glibc)
        patch.setattr(packaging._manylinux, "_have_compatible_abi", lambda *_arguments: True)
        patch.setattr(packaging._manylinux, "_get_manylinux_module", lambda: None, raising=False)
        patch.setattr(packaging._musllinux, "_get_musl_version", lambda *_arguments: None)
        found = list(packaging.tags.platform_tags())
    abi = f"cp{''.join(map(str, version))}"
    native = cpython_tags(version, abis=[abi], platforms=found)
    return [*native, *compatible_tags(version, interpreter=abi, platforms=found)]


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("machine", PLATFORMS)
@pytest.mark.parametrize("glibc", GLIBCS)
def test_the_tags_are_those_that_packaging_finds_on_the_target(python: str, machine: str, glibc: str) -> None:
    target = Target(python, machine, glibc)
    expected = on_the_target(target)
    assert target.tags == expected
    assert Tag(f"cp{python.replace('.', '')}", f"cp{python.replace('.', '')}t", f"linux_{machine}") not in expected


def names(draw_tags: Sequence[tuple[tuple[str, str], list[str], str]], name: str = "alpha") -> list[str]:
    return [
        f"{name}-1.0{build and '-' + build}-{python}-{abi}-{'.'.join(platforms)}.whl"
        for (python, abi), platforms, build in draw_tags
    ]


FILES = st.lists(
    st.tuples(
        st.sampled_from(PYTHON_TAGS),
        st.lists(st.sampled_from(PLATFORM_TAGS), min_size=1, max_size=3, unique=True),
        st.sampled_from(["", "", "", "1", "2", "10", "1a", "1b"]),
    ),
    min_size=1,
    max_size=8,
).map(names)
TARGETS = st.builds(Target, st.sampled_from(PYTHONS), st.sampled_from(list(PLATFORMS)), st.sampled_from(GLIBCS))


def platforms(target: Target) -> list[str]:
    return list(dict.fromkeys(tag.platform for tag in on_the_target(target) if tag.platform != "any"))


def chosen_by_pip(files: Sequence[str], target: Target) -> str | None:
    """Return what pip takes of ``files`` on ``target``."""
    version = tuple(map(int, target.python.split(".")))
    abi = "cp" + target.python.replace(".", "")
    python = TargetPython(platforms(target), version, abis=[abi], implementation="cp")
    links = [Link(f"https://index.example.com/{file}") for file in sorted(files)]
    fitting = [
        InstallationCandidate("alpha", "1.0", link)
        for link in links
        if Wheel(link.filename).supported(python.get_unsorted_tags())
    ]
    # pip's resolver tries the applicable ones from the last.
    best = CandidateEvaluator.create("alpha", python).get_applicable_candidates(fitting)[-1:]
    return best[0].link.filename if best else None


@settings(deadline=None)
@given(FILES, TARGETS)
def test_of_any_wheels_of_a_version_the_one_is_taken_that_pip_takes(files: list[str], target: Target) -> None:
    # Told its platforms one by one, pip puts all legacy names before the numbers below the first; at home it does not.
    legacy = any(name in file for name in LEGACY for file in files)
    assume(not legacy or sum("manylinux" in file for file in files) == 1)
    ranks = {tag: rank for rank, tag in enumerate(target.tags)}
    assert best_wheel(files, ranks) == chosen_by_pip(files, target)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """An index of packages, each with wheels of many kinds."""
    forget_configuration(tmp_path / "home", monkeypatch)
    wheels = tmp_path / "wheels"
    for tag in PLATFORM_TAGS:
        kind = tag.replace("_", "").replace("manylinux", "many")
        if tag != "any":
            wheel(wheels, f"only{kind}", "1.0", tag=f"py3-none-{tag}")
            wheel(wheels, f"newer{kind}", "2.0", tag=f"py3-none-{tag}")
            wheel(wheels, f"newer{kind}", "1.0")
    for python, abi in PYTHON_TAGS:
        kind = (python + abi).replace(".", "").replace("_", "")
        wheel(wheels, f"newer{kind}", "2.0", tag=f"{python}-{abi}-manylinux2014_x86_64")
        wheel(wheels, f"newer{kind}", "1.0")
    for number, tags in enumerate(MIXTURES):
        for tag in tags:
            wheel(wheels, f"mixture{number}", "1.0", tag=tag)
    for build in ("", "1-", "2-", "10-", "2b-"):
        wheel(wheels, "builds", "1.0", tag=f"{build}py3-none-any")
    with running(wheels) as served:
        monkeypatch.setenv("PIP_INDEX_URL", served.url())
        yield served


MIXTURES = [
    [f"{python}-{abi}-{platform}" for python, abi in PYTHON_TAGS[:14] for platform in ("any", "manylinux2014_x86_64")],
    [f"py3-none-{platform}" for platform in PLATFORM_TAGS],
    ["cp38-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64", "cp311-abi3-manylinux_2_28_x86_64", "py3-none-any"],
    ["cp312-cp312-linux_x86_64", "cp312-cp312-manylinux1_x86_64", "cp312-abi3-manylinux_2_28_x86_64", "py3-none-any"],
    ["py2.py3-none-any", "py3-none-any"],
    ["cp313-cp313t-manylinux_2_28_x86_64", "cp314-cp314t-manylinux_2_28_x86_64", "py3-none-any"],
    ["py3-none-manylinux_2_5_x86_64.manylinux1_x86_64", "py3-none-manylinux2010_x86_64"],
]  # fmt: skip


@pytest.mark.parametrize(
    "target",
    [
        Target("3.9", "x86_64", "2.17"),
        Target("3.12", "x86_64", "2.28"),
        Target("3.13", "aarch64", "2.28"),
        Target("3.14", "x86_64", "2.39"),
    ],
    ids=lambda target: f"{target.python}-{target.machine}-{target.glibc}",
)
def test_on_an_index_with_every_tag_uv_locks_what_pip_downloads(tmp_path: Path, index: Index, target: Target) -> None:
    packages = sorted({path.name.partition("-")[0] for path in index.directory.glob("*.whl")})
    fitting = [package for package in packages if fits(index, package, target)]
    assert packages != fitting
    downloaded = download(tmp_path / "out", fitting, target)
    assert len(downloaded) == len(fitting)
    request = Request(target.python, PLATFORMS[target.machine], target.glibc, tuple(fitting))
    uv = Uv(dict(os.environ))
    assert sorted(found.file for found in uv.wheels(request, uv.pins(request)).values()) == downloaded
    for package in (set(packages) - set(fitting)) & {"onlywinamd64", f"onlymany235{target.machine}"}:
        with pytest.raises(ResolverFailure):
            uv.pins(Request(target.python, PLATFORMS[target.machine], target.glibc, (package,)))


def fits(index: Index, package: str, target: Target) -> bool:
    tags = set(on_the_target(target))
    return any(parse_wheel_filename(path.name)[3] & tags for path in index.directory.glob(f"{package}-*.whl"))


def download(directory: Path, packages: Sequence[str], target: Target) -> list[str]:
    """Return what pip downloads for ``target``."""
    digits = target.python.replace(".", "")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--dest", str(directory), "--implementation", "cp", "--python-version", target.python]
    command += ["--abi", f"cp{digits}"]
    for platform in platforms(target):
        command += ["--platform", platform]
    result = subprocess.run([*command, *packages], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return sorted(path.name for path in directory.iterdir())
