"""Which versions an advisory is about: the evaluation of the OSV schema, versions as PEP 440 compares them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from mfbazel.audit.advisory import Affected, Event
from mfbazel.audit.matching import affects, fixes


def events(text: str) -> tuple[Event, ...]:
    """Read ``introduced 0 fixed 1.2``."""
    words = text.split()
    return tuple(Event(kind, version) for kind, version in zip(words[::2], words[1::2], strict=True))


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("introduced 0", "0.dev0 0 1.0 999", ""),
        ("introduced 1.0", "1.0 1.0.post1 2.0", "0.9 1.0rc1 1.0.dev3"),
        ("introduced 0 fixed 1.2", "0a1 1.1 1.2rc1 1.2.dev0", "1.2 1.2.0 1.2.post1 2!0.1"),
        ("introduced 0 last_affected 1.2", "1.2 1.2.0 1.1", "1.2.post1 1.2.1 1.3"),
        ("introduced 1 fixed 1.5 introduced 2 fixed 2.5", "1.4 2.0 2.4.9", "0.9 1.5 1.9 2.5 3"),
        # In whatever order they are written.
        ("fixed 2.5 introduced 2 fixed 1.5 introduced 1", "1.4 2.4", "1.5 1.9 2.5"),
        ("introduced 0 fixed 1.9 introduced 1.9 fixed 2.0", "1.8 1.9 1.9.5", "2.0"),
        ("introduced 1.10 fixed 1.20", "1.10 1.19", "1.2 1.9 1.20"),
        ("introduced 0 limit 3", "2.9", "3 3.1"),
        ("introduced 0 limit 2 limit 4", "1 3.9", "4"),
        ("introduced 0 limit *", "1 100", ""),
        ("introduced 1!1.0", "1!1.0 1!2", "5.0"),
        # A version that PEP 440 does not know is older than all others.
        ("introduced final-beta", "0.1 1", ""),
        ("introduced 0 fixed final-beta", "", "0.1 1"),
        # A local version is a build of its public one, unless the advisory speaks of local versions.
        ("introduced 0 fixed 2.0", "1.9+cu118", "2.0+cu118"),
        ("introduced 0 last_affected 2.0", "2.0+cu118", "2.1+cu118"),
        ("introduced 0 fixed 2.0+patch2", "2.0 2.0+patch1", "2.0+patch2 2.1"),
    ],
)
def test_a_range_is_evaluated_as_the_schema_says(text: str, inside: str, outside: str) -> None:
    affected = Affected("alpha", (), (events(text),))
    assert [version for version in inside.split() if not affects(affected, Version(version))] == []
    assert [version for version in outside.split() if affects(affected, Version(version))] == []


def test_listed_versions_count_besides_the_ranges_and_are_compared_as_versions() -> None:
    affected = Affected("alpha", ("1.0", "v2.0RC1", "not-a-version"), (events("introduced 3 fixed 4"),))
    for version in ("1.0.0", "1", "2.0rc1", "1.0+local", "3.5"):
        assert affects(affected, Version(version)), version
    for version in ("1.0.1", "2.0", "4"):
        assert not affects(affected, Version(version)), version


def test_every_range_counts_by_itself() -> None:
    affected = Affected("alpha", (), (events("introduced 1 fixed 2"), events("introduced 1.5 fixed 3")))
    assert affects(affected, Version("1.2"))
    assert affects(affected, Version("2.5"))
    assert fixes(affected, Version("1.7")) == ["2", "3"]
    assert fixes(affected, Version("2.5")) == ["3"]


def test_of_a_range_the_next_fix_is_named() -> None:
    affected = Affected("alpha", ("0.5",), (events("introduced 1 fixed 1.5 introduced 2 fixed 2.5"),))
    assert fixes(affected, Version("1.2")) == ["1.5"]
    assert fixes(affected, Version("2.2")) == ["2.5"]
    assert fixes(affected, Version("0.5")) == ["1.5"]
    assert fixes(Affected("alpha", (), (events("introduced 0 last_affected 3"),)), Version("1")) == []


VERSIONS = st.builds(
    lambda release, suffix: Version(".".join(map(str, release)) + suffix),
    st.lists(st.integers(0, 4), min_size=1, max_size=3),
    st.sampled_from(["", "a1", "rc2", ".post1", ".dev0"]),
)


@settings(deadline=None)
@given(VERSIONS, st.lists(VERSIONS, max_size=6, unique=True), st.randoms())
def test_a_range_is_the_union_of_its_intervals(version: Version, bounds: list[Version], random: object) -> None:
    bounds.sort()
    begins, ends = bounds[::2], [*bounds[1::2], None]
    expected = any(
        begin <= version and (end is None or version < end) for begin, end in zip(begins, ends, strict=False)
    )
    written = [Event("introduced", str(item)) for item in begins] + [Event("fixed", str(item)) for item in bounds[1::2]]
    random.shuffle(written)  # type: ignore[attr-defined]
    # "0" is no version but the beginning, so such a bound is written in another way.
    plain = tuple(Event(event.kind, "0.0" if event.version == "0" else event.version) for event in written)
    assert affects(Affected("alpha", (), (plain,)), version) == expected
