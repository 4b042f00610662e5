"""At every moment there is a whole lock."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mfbazel.lock import writer
from mfbazel.lock.errors import LockError
from mfbazel.lock.writer import write_directory

OWNED = {"flow.json", "a.txt", "old.txt"}


def content(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(directory.iterdir())}


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    directory = tmp_path / "x.lock"
    directory.mkdir()
    for name in ("flow.json", "old.txt", "OWNERS"):
        (directory / name).write_text(f"old {name}", encoding="utf-8")
    return directory


@pytest.fixture(params=["exchange", "renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to put the new directory in its place."""
    if request.param == "renames":
        monkeypatch.setattr(writer, "_exchange", lambda: None)


@pytest.mark.usefixtures("way")
def test_own_files_are_replaced_and_foreign_ones_stay(lock: Path) -> None:
    assert write_directory(lock, {"flow.json": "new", "a.txt": "a"}, OWNED)
    assert content(lock) == {"flow.json": "new", "a.txt": "a", "OWNERS": "old OWNERS"}
    assert [path.name for path in lock.parent.iterdir()] == ["x.lock"]


def test_a_new_directory_obeys_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0o027)
    try:
        write_directory(tmp_path / "sub" / "x.lock", {"flow.json": "new"}, OWNED)
    finally:
        os.umask(previous)
    assert (tmp_path / "sub" / "x.lock").stat().st_mode & 0o777 == 0o750


def test_equal_content_touches_nothing(lock: Path) -> None:
    files = {"flow.json": "old flow.json", "old.txt": "old old.txt"}
    before = lock.stat()
    assert not write_directory(lock, files, OWNED)
    assert (lock.stat().st_ino, lock.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.usefixtures("way")
def test_a_failure_while_writing_leaves_the_old_lock_and_nothing_else(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(lock)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        LockError, match=r"cannot write the lock .*x\.lock: No space left on device; the old lock is as it was"
    ):
        write_directory(lock, {"flow.json": "new"}, OWNED)
    assert content(lock) == before
    assert [path.name for path in lock.parent.iterdir()] == ["x.lock"]


def test_what_a_killed_writer_left_is_removed_but_not_what_a_running_one_writes(lock: Path) -> None:
    dead = lock.parent / f".x.lock.new-{2**22 + 12345}-abc"
    running = lock.parent / f".x.lock.new-{os.getpid()}-abc"
    dead.mkdir()
    running.mkdir()
    write_directory(lock, {"flow.json": "new"}, OWNED)
    assert not dead.exists()
    assert running.exists()


def test_a_link_to_a_lock_stays_a_link(lock: Path) -> None:
    link = lock.parent / "link.lock"
    link.symlink_to(lock)
    write_directory(link, {"flow.json": "new"}, OWNED)
    assert link.is_symlink()
    assert (lock / "flow.json").read_text(encoding="utf-8") == "new"


def test_what_a_killed_writer_left_is_removed_even_when_nothing_else_is_to_do(lock: Path) -> None:
    left = lock.with_name(f".{lock.name}.new-999999999-x")
    left.mkdir()
    files = {"flow.json": "new"}
    write_directory(lock, files, OWNED)
    left.mkdir()
    assert not write_directory(lock, files, OWNED)
    assert not left.exists()


def test_a_file_in_the_place_of_a_lock_stays_and_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.lock").write_text("mine", encoding="utf-8")
    with pytest.raises(LockError, match=r"x\.lock: a file is there; remove it"):
        write_directory(tmp_path / "x.lock", {"flow.json": "new"}, OWNED)
    assert [path.name for path in tmp_path.iterdir()] == ["x.lock"]
    assert (tmp_path / "x.lock").read_text(encoding="utf-8") == "mine"
