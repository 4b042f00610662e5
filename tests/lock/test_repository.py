"""Which locks of a workspace target patterns name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mfbazel.lock.errors import LockError
from mfbazel.lock.repository.locks import absolute, find_locks, matches, read_locks


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Locks of flows in several packages, one of no flow, and directories that are not searched."""
    for name in ("a.lock", "flows/b.lock", "flows/deep/c.lock", "flows/deep/sub/d.lock"):
        _lock(tmp_path / name, {"name": "F", "steps": []})
    _lock(tmp_path / "tools/python.lock", None)
    for name in (".git/x.lock", "bazel-out/x.lock", "node_modules/x.lock", "flows/b.lock/inner.lock"):
        _lock(tmp_path / name, {"name": "F", "steps": []})
    (tmp_path / "empty.lock").mkdir()
    for package in (".", "flows", "flows/deep", "tools"):
        (tmp_path / package / "BUILD.bazel").touch()
    return tmp_path


def _lock(directory: Path, flow: object) -> None:
    directory.mkdir(parents=True)
    document = {"schema": 1, "flow": flow, "environments": {}, "wheels": {}}
    (directory / "flow.json").write_text(json.dumps(document))


def test_locks_are_named_by_the_package_that_they_lie_in(workspace: Path) -> None:
    assert {label: str(path.relative_to(workspace)) for label, path in find_locks(workspace).items()} == {
        "//:a": "a.lock",
        "//flows/deep:c": "flows/deep/c.lock",
        "//flows/deep:sub/d": "flows/deep/sub/d.lock",
        "//flows:b": "flows/b.lock",
        "//tools:python": "tools/python.lock",
    }


@pytest.mark.parametrize(
    ("pattern", "labels"),
    [
        ("//...", ["//:a", "//flows/deep:c", "//flows/deep:sub/d", "//flows:b"]),
        ("//flows/...", ["//flows/deep:c", "//flows/deep:sub/d", "//flows:b"]),
        ("//flow/...", []),
        ("//flows:all", ["//flows:b"]),
        ("//flows:b", ["//flows:b"]),
        ("//flows:b.lock", ["//flows:b"]),
        ("//:a", ["//:a"]),
        ("//flows/deep:sub/d", ["//flows/deep:sub/d"]),
        ("//flows", []),
        ("deep/...", ["//flows/deep:c", "//flows/deep:sub/d"]),
        ("...", ["//flows/deep:c", "//flows/deep:sub/d", "//flows:b"]),
        (":b", ["//flows:b"]),
        ("deep:c", ["//flows/deep:c"]),
    ],
)
def test_patterns_are_bazels_and_relative_ones_count_from_the_working_directory(
    workspace: Path, pattern: str, labels: list[str]
) -> None:
    if labels:
        assert sorted(read_locks(workspace, [pattern], workspace / "flows").found) == labels
    else:
        with pytest.raises(LockError, match="there is no lock of a flow in"):
            read_locks(workspace, [pattern], workspace / "flows")


def test_the_short_form_of_a_label_names_the_target_called_as_its_package() -> None:
    assert matches("//flows/churn:churn", "//flows/churn")
    assert not matches("//flows/churn:other", "//flows/churn")
    assert absolute("@//flows:b", "x") == "//flows:b"


def test_a_lock_that_cannot_be_read_is_told_and_the_others_are_read(workspace: Path) -> None:
    (workspace / "flows/b.lock/flow.json").write_text("{")
    locks = read_locks(workspace, ["//..."])
    assert "//flows:b" not in locks.found and len(locks.found) == 3
    assert "cannot read the lock" in locks.problems["//flows:b"]
    assert "bazel run //flows:b.lock" in locks.problems["//flows:b"]
