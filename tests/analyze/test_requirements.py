"""Metaflow's merging and version rules, and the hash."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfbazel.analyze import AnalyzeError, Attributes, effective, live_requirements, merge, requirements_sha256
from mfbazel.analyze.requirements import requirement, split


@pytest.mark.parametrize(
    ("package", "version", "expected"),
    [
        ("pandas", "2.2", "pandas==2.2"),
        ("pandas", "==2.2", "pandas==2.2"),
        ("pandas", "", "pandas"),
        ("pandas", ">=2,<3", "pandas<3,>=2"),
        ("pandas", "!=2.1", "pandas!=2.1"),
        ("pandas", "~=2.1", "pandas~=2.1"),
        ("pandas", "2.*", "pandas==2.*"),
        ("pandas", "=2.2", "pandas==2.2.*"),
        ("conda-forge::pandas", "2.2", "pandas==2.2"),
        ("requests[socks]", "2.3", "requests[socks]==2.3"),
        ("pkg@git+https://example.com/x.git", "", "pkg @ git+https://example.com/x.git"),
        ("pkg@git+https://example.com/x.git", "@v1.4", "pkg @ git+https://example.com/x.git@v1.4"),
        ("numpy", "*", "numpy"),
        ("pkg", "@git+https://example.com/x.git", "pkg @ git+https://example.com/x.git"),
    ],
)
def test_keys_and_values_mean_what_metaflow_makes_of_them(package: str, version: str, expected: str) -> None:
    name, specifier = split(requirement(package, version))
    space = " " if specifier.startswith("@") else ""
    assert f"{name}{space}{specifier}" == expected


@pytest.mark.parametrize(("version", "meant"), [("=>1.5", ">=1.5"), ("=<2", "<=2"), ("=~1.4", "~=1.4")])
def test_swapped_operators_are_refused_with_what_is_meant(version: str, meant: str) -> None:
    with pytest.raises(AnalyzeError, match=f'write "{meant}"'):
        requirement("pandas", version)


@pytest.mark.parametrize(
    "other",
    [
        {"Pandas": "2.2", "scikit_learn": ""},
        {"scikit-learn": "", "pandas": "==2.2"},
        {"pandas": " 2.2 ", "scikit.learn": ""},
    ],
)
def test_equal_requirements_hash_equal(other: dict[str, str]) -> None:
    assert requirements_sha256(None, other) == requirements_sha256(None, {"pandas": "2.2", "scikit-learn": ""})


@pytest.mark.parametrize(
    ("python", "packages"),
    [
        ("3.14", {"pandas": "2.2"}),
        (None, {"pandas": "2.2.0"}),
        (None, {"pandas": ">=2.2"}),
        (None, {"pandas[excel]": "2.2"}),
        (None, {"pandas": "2.2", "numpy": ""}),
        (None, {}),
    ],
)
def test_different_requirements_hash_differently(python: str | None, packages: dict[str, str]) -> None:
    assert requirements_sha256(python, packages) != requirements_sha256(None, {"pandas": "2.2"})


def test_the_hash_is_fixed_for_good() -> None:
    """Locks are checked in: another value would make every one of them stale."""
    digest = requirements_sha256(
        "3.14", {"requests[socks]": ">=2", "Pandas": "2.2", "x": "@ https://example.com/x.whl"}
    )
    text = '{"packages":{"pandas":"==2.2","requests":"[socks]>=2","x":"@ https://example.com/x.whl"},"python":"3.14"}'
    assert digest == hashlib.sha256(text.encode()).hexdigest()


@settings(deadline=None)
@given(st.permutations([("a", "1"), ("b", ">2"), ("c[x,y]", ""), ("D", "3")]))
def test_the_order_of_packages_does_not_count(items: list[tuple[str, str]]) -> None:
    assert requirements_sha256("3.9", dict(items)) == requirements_sha256("3.9", dict(sorted(items)))


def test_a_malformed_version_is_an_error() -> None:
    with pytest.raises(AnalyzeError, match='"pandas": "new est" is not a requirement'):
        requirement("pandas", "new est")
    with pytest.raises(AnalyzeError, match="a URL has no version, leave it empty"):
        requirement("x@git+https://example.com/x.git", "1.0")


def test_what_is_no_requirement_counts_as_text() -> None:
    """A conda package that is left out may have a build as its version."""
    hashes = [requirements_sha256(None, {"_openmp_mutex": text}) for text in ("4.5=2_gnu", " 4.5=2_gnu", "4.5=1_gnu")]
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_steps_values_win_over_the_flows() -> None:
    base = Attributes({"a": "1", "b": "1"}, "3.9", True)
    assert merge(base, Attributes({"b": "2"}, None, None)) == Attributes({"a": "1", "b": "2"}, "3.9", True)
    assert merge(base, Attributes({}, "3.10", False)) == Attributes({"a": "1", "b": "1"}, "3.10", False)
    assert merge(None, base) == merge(base, None) == base


def test_packages_from_both_decorators_are_refused_unless_disabled() -> None:
    pypi, conda = Attributes({"a": "1"}), Attributes({"b": "1"}, "3.9")
    with pytest.raises(AnalyzeError, match="packages from both @pypi and @conda"):
        effective(pypi, conda)
    found = effective(Attributes({"a": "1"}, None, True), conda)
    assert (found.disabled, dict(found.packages), found.python) == (True, {"a": "1", "b": "1"}, "3.9")


def test_live_attributes_give_the_same_as_the_source() -> None:
    conda = {"packages": {}, "libraries": {"numpy": "2"}, "python": None, "disabled": "True"}
    found = live_requirements({"conda": conda, "pypi": {"packages": {}, "python": "3.9", "disabled": False}})
    assert (dict(found.packages), found.python, found.disabled) == ({"numpy": "2"}, "3.9", True)
    assert live_requirements({}).packages == {}
