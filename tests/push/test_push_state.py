"""Where records and caches lie, and how files are written."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mfbazel import state


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"MFBAZEL_STATE_DIR": "/s", "XDG_STATE_HOME": "/x", "HOME": "/h"}, "/s"),
        ({"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/mfbazel"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/mfbazel"),
        ({"HOME": "/h"}, "/h/.local/state/mfbazel"),
    ],
)
def test_the_state_directory(environ: dict[str, str], expected: str) -> None:
    assert state.state_dir(environ) == Path(expected)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/mfbazel"), ({"HOME": "/h"}, "/h/.cache/mfbazel")],
)
def test_the_cache_directory(environ: dict[str, str], expected: str) -> None:
    assert state.cache_dir(environ) == Path(expected)


def test_the_workspace_id_is_the_same_through_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    real = os.path.realpath(tmp_path / "real")
    assert state.workspace_id(tmp_path / "link") == hashlib.sha256(real.encode()).hexdigest()[:12]


def test_the_record_of_a_flow_lies_below_its_package_and_name(tmp_path: Path) -> None:
    path = state.images_path(tmp_path, "//examples/churn:churn_flow", {"MFBAZEL_STATE_DIR": "/s"})
    assert path == Path("/s/images") / state.workspace_id(tmp_path) / "examples/churn/churn_flow/images.json"


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("//a/b:c", ("a/b", "c")),
        ("@@//a/b:c", ("a/b", "c")),
        ("@//a/b", ("a/b", "b")),
        ("//:c", ("", "c")),
        ("@@rules~1//a:b", ("external/rules~1/a", "b")),
    ],
)
def test_labels_are_split(label: str, expected: tuple[str, str]) -> None:
    assert state.parse_label(label) == expected


@pytest.mark.parametrize("label", ["", "a:b", ":b", "//", "//a/../b:c", "//a:../c", "//a//b:c", "/a:b"])
def test_what_is_no_absolute_label_is_refused(label: str) -> None:
    with pytest.raises(state.StateError, match="is not an absolute Bazel label"):
        state.parse_label(label)


def test_the_workspace_is_told_by_bazel_or_found_above(tmp_path: Path) -> None:
    (tmp_path / "MODULE.bazel").write_text("")
    (tmp_path / "a/b").mkdir(parents=True)
    assert state.workspace_dir({}, tmp_path / "a/b") == tmp_path
    assert state.workspace_dir({"BUILD_WORKSPACE_DIRECTORY": "/w"}, tmp_path) == Path("/w")


def test_no_workspace_is_an_error_with_advice(tmp_path: Path) -> None:
    with pytest.raises(state.StateError, match=r"no Bazel workspace at or above .*BUILD_WORKSPACE_DIRECTORY"):
        state.workspace_dir({}, tmp_path)


def test_writing_replaces_whole_files_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    state.write_atomically(path, "old")
    state.write_atomically(path, "new é")
    assert path.read_text(encoding="utf-8") == "new é"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o600 == 0o600


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    state.write_atomically(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        state.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_the_module_needs_the_standard_library_only() -> None:
    root = Path(state.__file__).parent.parent
    code = f"import sys; sys.path.insert(0, {str(root)!r}); import mfbazel.state"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
