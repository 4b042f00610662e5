"""Unpacking source archives, which may say anything."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mfbazel.build import archive as archive_module
from mfbazel.build.archive import EPOCH, unpack
from mfbazel.build.errors import BuildError
from tests.build.projects import write_tar


def _info(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.mtime = kind, target, mode, 1234567890
    return info


def _tar(path: Path, *infos: tarfile.TarInfo) -> Path:
    write_tar(path, [(info, b"content" if info.isreg() else b"") for info in (_info("p/first"), *infos)])
    return path


def test_files_links_and_directories_are_written_with_fixed_modes_and_times(tmp_path: Path) -> None:
    path = _tar(
        tmp_path / "p-1.tar.gz",
        _info("p/bin", tarfile.DIRTYPE, mode=0o700),
        _info("p/bin/run", mode=0o4711),
        _info("p/bin/link", tarfile.SYMTYPE, "../first"),
        _info("p/bin/same", tarfile.LNKTYPE, "p/first"),
    )
    top = unpack(path, tmp_path / "out")
    assert top == tmp_path / "out" / "p"
    assert (top / "bin" / "run").stat().st_mode & 0o7777 == 0o755
    assert (top / "first").stat().st_mode & 0o7777 == 0o644
    assert (top / "bin").stat().st_mode & 0o7777 == 0o755
    assert (top / "bin" / "link").read_bytes() == b"content"
    assert (top / "bin" / "same").read_bytes() == b"content"
    assert (top / "bin" / "same").stat().st_nlink == 1
    assert {item.lstat().st_mtime for item in [top, *top.rglob("*")]} == {EPOCH}


UNSAFE: list[tuple[tarfile.TarInfo, str]] = [
    (_info("/etc/passwd"), "its path is absolute"),
    (_info("p/../../out"), "its path has '..'"),
    (_info("p/link", tarfile.SYMTYPE, "/etc"), "a link to '/etc', which leads out"),
    (_info("p/link", tarfile.SYMTYPE, "../../x"), "which leads out"),
    (_info("p/link", tarfile.SYMTYPE, "a/../../../x"), "which leads out"),
    (_info("p/same", tarfile.LNKTYPE, "/etc/passwd"), "a hard link that leads out"),
    (_info("p/same", tarfile.LNKTYPE, "../x"), "a hard link that leads out"),
    (_info("p/same", tarfile.LNKTYPE, "p/later"), "a hard link to 'p/later', which is not before it"),
    (_info("p/device", tarfile.CHRTYPE), "it is a device or pipe"),
    (_info("p/pipe", tarfile.FIFOTYPE), "it is a device or pipe"),
]


@pytest.mark.parametrize(("info", "why"), UNSAFE, ids=[f"{info.name}-{info.linkname}" for info, _ in UNSAFE])
def test_what_leads_out_or_is_no_file_is_refused(tmp_path: Path, info: tarfile.TarInfo, why: str) -> None:
    with pytest.raises(BuildError, match="The source was not built") as caught:
        unpack(_tar(tmp_path / "p-1.tar.gz", info), tmp_path / "out")
    assert why in str(caught.value)
    assert info.name in str(caught.value)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    up = _info("p/a/up", tarfile.SYMTYPE, "../..")
    path = _tar(tmp_path / "p-1.tar.gz", up, _info("p/a/up/written"))
    with pytest.raises(BuildError, match="it lies below a link"):
        unpack(path, secret / "out")
    assert not (secret / "written").exists()


def test_a_file_replaces_a_link_and_is_not_written_to_its_target(tmp_path: Path) -> None:
    top = unpack(_tar(tmp_path / "p-1.tar.gz", _info("p/x", tarfile.SYMTYPE, "first"), _info("p/x")), tmp_path / "out")
    assert not (top / "x").is_symlink()


def test_zip_archives_are_unpacked_alike(tmp_path: Path) -> None:
    path = tmp_path / "p-1.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("p/run")
        info.external_attr = 0o100700 << 16
        archive.writestr(info, "x")
        archive.writestr("p/empty/", "")
    top = unpack(path, tmp_path / "out")
    assert (top / "run").stat().st_mode & 0o777 == 0o755
    assert (top / "empty").is_dir()


@pytest.mark.parametrize("name", ["../out", "/out", "p/../../out"])
def test_zip_archives_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "p-1.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(BuildError, match="unsafe member"):
        unpack(path, tmp_path / "deep" / "out")
    assert not (tmp_path / "out").exists()


def test_links_in_zip_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p-1.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("p/link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(BuildError, match="neither file, directory nor link"):
        unpack(path, tmp_path / "out")


def _two_tops(path: Path) -> None:
    _tar(path, _info("q/other"))


def _cut_off(path: Path) -> None:
    _tar(path, *(_info(f"p/{number}") for number in range(200)))
    path.write_bytes(path.read_bytes()[:-80])


def _a_page(path: Path) -> None:
    path.write_text("<html>please log in</html>")


@pytest.mark.parametrize(
    ("make", "why"),
    [(_two_tops, "has one directory at its top; this one has p, q"), (_cut_off, "not a readable source archive")],
)
def test_what_is_no_source_archive_is_said(tmp_path: Path, make: Callable[[Path], None], why: str) -> None:
    path = tmp_path / "p-1.tar.gz"
    make(path)
    with pytest.raises(BuildError) as caught:
        unpack(path, tmp_path / "out")
    assert why in str(caught.value)


def test_a_login_page_is_no_source_archive(tmp_path: Path) -> None:
    path = tmp_path / "p-1.tar.gz"
    _a_page(path)
    with pytest.raises(BuildError, match=r"p-1\.tar\.gz: not a readable source archive"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize(("limit", "value"), [("MOST_BYTES", 20), ("MOST_MEMBERS", 3)])
def test_what_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(archive_module, limit, value)
    path = _tar(tmp_path / "p-1.tar.gz", *(_info(f"p/{number}") for number in range(3)))
    with pytest.raises(BuildError, match="it unpacks to more than"):
        unpack(path, tmp_path / "out")
