"""Fetching one wheel with pip: from a local index, no network."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mfbazel.wheel import fetch as module
from mfbazel.wheel.fetch import FetchError, Wheel, cached, fetch, parse_tags, pip_command, redact, sha256_of

SCRIPT = Path(module.__file__)


def make(directory: Path, tag: str = "py3-none-any", body: str = "x = 1\n", name: str = "alpha") -> Wheel:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-1.0-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(f"{name}.py"), body)
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Python: >=3.0\n"
        archive.writestr(zipfile.ZipInfo(f"{name}-1.0.dist-info/METADATA"), metadata)
        archive.writestr(zipfile.ZipInfo(f"{name}-1.0.dist-info/WHEEL"), f"Wheel-Version: 1.0\nTag: {tag}\n")
        archive.writestr(zipfile.ZipInfo(f"{name}-1.0.dist-info/RECORD"), "")
    return Wheel(name, "1.0", path.name, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of wheels that is all pip knows; an empty wheel cache."""
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "pip"))
    monkeypatch.setenv("MFBAZEL_WHEEL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


@pytest.fixture
def served(index: Path) -> Iterator[str]:
    """An HTTP server of the directory that holds the index; yields ``host:port``."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(index))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "tag",
    [
        "py3-none-any",
        "py2.py3-none-any",
        "cp314-cp314-manylinux_2_25_x86_64",
        "cp314-cp314-manylinux_2_27_x86_64.manylinux_2_28_x86_64",
        "cp37-abi3-manylinux1_x86_64.manylinux_2_28_x86_64.manylinux_2_5_x86_64",
        "cp313.cp314-none-manylinux_2_17_aarch64",
        "cp310.cp314-abi3.none-linux_x86_64",
        "py3-none-manylinux_2_17_x86_64",
    ],
)
def test_wheels_of_any_tag_are_fetched_wherever_this_runs(tmp_path: Path, index: Path, tag: str) -> None:
    wheel = make(index, tag)
    output = fetch(wheel, tmp_path / "out" / "wheel.whl")
    assert output.read_bytes() == (index / wheel.file).read_bytes()
    assert [path.name for path in output.parent.iterdir()] == ["wheel.whl"]


def test_of_several_wheels_of_a_version_the_one_with_the_hash_is_taken(tmp_path: Path, index: Path) -> None:
    make(index, "cp314-cp314-manylinux_2_28_x86_64")
    wheel = make(index, "cp314-cp314-manylinux_2_17_x86_64", body="y = 2\n")
    make(index, "py3-none-any")
    assert hashlib.sha256(fetch(wheel, tmp_path / "w.whl").read_bytes()).hexdigest() == wheel.sha256


def test_the_cache_serves_without_an_index(tmp_path: Path, index: Path) -> None:
    wheel = make(index)
    fetch(wheel, tmp_path / "first.whl")
    (index / wheel.file).unlink()
    assert fetch(wheel, tmp_path / "second.whl").stat().st_size > 0
    assert (tmp_path / "cache" / wheel.sha256 / wheel.file).is_file()


def test_a_corrupt_cache_entry_is_dropped_and_replaced(tmp_path: Path, index: Path) -> None:
    wheel = make(index)
    entry = tmp_path / "cache" / wheel.sha256 / wheel.file
    entry.parent.mkdir(parents=True)
    entry.write_bytes(b"rubbish")
    assert cached(wheel, tmp_path / "cache") is None
    assert not entry.exists()
    entry.write_bytes(b"rubbish")
    fetch(wheel, tmp_path / "w.whl")
    assert hashlib.sha256(entry.read_bytes()).hexdigest() == wheel.sha256


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owners on this system")
def test_what_others_may_change_in_a_shared_cache_is_copied(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make(index)
    fetch(wheel, tmp_path / "first.whl")
    entry = tmp_path / "cache" / wheel.sha256 / wheel.file
    assert fetch(wheel, tmp_path / "second.whl").samefile(entry), "the user's own is a link: wheels are large"
    user = os.geteuid()
    monkeypatch.setattr("os.geteuid", lambda: user + 1)
    third = fetch(wheel, tmp_path / "third.whl")
    with entry.open("r+b") as other:
        other.write(b"evil")
    assert sha256_of(third) == wheel.sha256


def test_what_is_linked_to_the_cache_is_writable_for_this_user_alone(tmp_path: Path, index: Path) -> None:
    before = os.umask(0o002)
    try:
        wheel = make(index)
        output = fetch(wheel, tmp_path / "w.whl")
        assert output.stat().st_mode & 0o022 == 0
        entry = tmp_path / "cache" / wheel.sha256 / wheel.file
        entry.chmod(0o666)
        assert fetch(wheel, tmp_path / "again.whl").stat().st_mode & 0o022 == 0
    finally:
        os.umask(before)


def test_an_entry_that_is_changed_after_it_was_compared_is_not_used(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make(index)
    entry = tmp_path / "cache" / wheel.sha256 / wheel.file
    fetch(wheel, tmp_path / "first.whl")

    def changed(*arguments: Any) -> Path | None:
        found = cached(*arguments)
        entry.unlink()
        entry.write_bytes(b"evil")
        return found

    monkeypatch.setattr(module, "cached", changed)
    assert sha256_of(fetch(wheel, tmp_path / "w.whl")) == wheel.sha256


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("alpha\n--no-binary=:all:\nalpha", "1.0"),
        ("alpha", "1.0\n--index-url=http://evil.example"),
        ("-e /tmp/evil #", "1.0"),
        ("alpha", "1.0 ; python_version"),
        ("alpha @ file:///tmp/evil#", "1"),
    ],
)
def test_a_lock_that_was_changed_gives_pip_no_line_of_its_own(tmp_path: Path, name: str, version: str) -> None:
    with pytest.raises(FetchError, match="is not the name and version of a distribution: the lock"):
        fetch(Wheel(name, version, "alpha-1.0-py3-none-any.whl", "0" * 64), tmp_path / "w.whl")


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make(index)
    (tmp_path / "file").write_text("not a directory", encoding="utf-8")
    monkeypatch.setenv("MFBAZEL_WHEEL_CACHE", str(tmp_path / "file"))
    assert fetch(wheel, tmp_path / "w.whl").is_file()


def test_another_hash_names_both_and_the_file_and_leaves_nothing(tmp_path: Path, index: Path) -> None:
    actual = make(index)
    locked = actual._replace(sha256="0" * 64)
    with pytest.raises(FetchError) as error:
        fetch(locked, tmp_path / "out" / "w.whl")
    assert str(error.value) == (
        "alpha 1.0: the hash of alpha-1.0-py3-none-any.whl differs\n"
        f"  locked:   sha256:{'0' * 64}\n"
        f"  received: sha256:{actual.sha256}\n"
        "The file on the index is not the one that was locked; it was not used. If the new file is to be "
        "trusted, run the "
        "`.lock` target of the flow again with `-- --upgrade-package alpha`."
    )
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "cache").exists()


def test_a_file_that_is_gone_from_the_index_says_what_to_do(tmp_path: Path) -> None:
    wheel = Wheel("alpha", "1.0", "alpha-1.0-py3-none-any.whl", "0" * 64)
    with pytest.raises(FetchError) as error:
        fetch(wheel, tmp_path / "w.whl")
    assert str(error.value) == (
        f"alpha 1.0: no configured index has alpha-1.0-py3-none-any.whl any more (sha256:{'0' * 64})\n"
        "It was deleted, or your pip configuration names another index than when it was locked: see `python3 "
        "-m pip config "
        "list`. To lock what is there now, run the `.lock` target of the flow with `-- --upgrade-package alpha`."
    )


def test_an_unreachable_index_gives_pips_last_reason_without_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://user:secret@127.0.0.1:{port}/simple")
        monkeypatch.setenv("PIP_RETRIES", "1")
        with pytest.raises(FetchError) as error:
            fetch(Wheel("alpha", "1.0", "alpha-1.0-py3-none-any.whl", "0" * 64), tmp_path / "w.whl")
    first, second = str(error.value).splitlines()
    assert first.startswith("alpha 1.0: the package index could not be reached: ")
    assert "Connection refused" in first
    assert "object at 0x" not in first
    assert second == (
        "alpha-1.0-py3-none-any.whl was not downloaded. Your pip configuration decides which index is asked: see "
        "`python3 -m pip config list` and the PIP_* environment variables."
    )
    assert "secret" not in str(error.value)


def test_an_index_over_http_with_credentials_works(
    tmp_path: Path, index: Path, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make(index)
    (index / "simple" / "alpha").mkdir(parents=True)
    page = f'<a href="../../{wheel.file}">{wheel.file}</a>'
    (index / "simple" / "alpha" / "index.html").write_text(page, encoding="utf-8")
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://user:secret@{served}/simple")
    assert fetch(wheel, tmp_path / "w.whl").is_file()


def test_no_url_is_on_pips_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:secret@host/simple")
    wheel = Wheel("alpha", "1.0", "alpha-1.0-cp37-abi3-manylinux1_x86_64.manylinux_2_5_x86_64.whl", "0" * 64)
    command = pip_command(wheel, tmp_path / "r.txt", tmp_path / "d", "python3")
    assert "://" not in " ".join(command)
    assert [command[i + 1] for i, word in enumerate(command) if word == "--platform"] == [
        "manylinux1_x86_64",
        "manylinux_2_5_x86_64",
    ]
    assert command[command.index("--python-version") + 1] == "37"
    assert command[command.index("--abi") + 1] == "abi3"


@pytest.mark.parametrize("file", ["alpha-1.0.tar.gz", "alpha.whl", "../x-1-py3-none-any.whl", "a-b-c-d-e-f-g.whl"])
def test_what_is_no_wheels_name_is_refused(file: str) -> None:
    with pytest.raises(FetchError, match="is not a wheel's file name"):
        parse_tags(file)


def test_variables_that_would_forbid_or_change_the_download_do_not_count(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "constraints.txt").write_text("alpha==2.0\n", encoding="utf-8")
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    monkeypatch.setenv("PIP_REQUIRE_VIRTUALENV", "1")
    assert fetch(make(index), tmp_path / "w.whl").is_file()


def test_constraints_of_a_configuration_file_do_not_count(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "constraints.txt").write_text("alpha==2.0\n", encoding="utf-8")
    (tmp_path / "pip.conf").write_text(f"[global]\nconstraint = {tmp_path / 'constraints.txt'}\n", encoding="utf-8")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert fetch(make(index), tmp_path / "w.whl").is_file()


def test_an_interpreter_without_pip_is_named(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="cannot run pip with the interpreter '/nonexistent/python'"):
        fetch(Wheel("a", "1", "a-1-py3-none-any.whl", "0" * 64), tmp_path / "w.whl", python="/nonexistent/python")


def test_it_runs_as_a_plain_script_without_any_package(tmp_path: Path, index: Path) -> None:
    wheel = make(index)
    options = [
        "--name",
        wheel.name,
        "--version",
        wheel.version,
        "--file",
        wheel.file,
        "--output",
        str(tmp_path / "w.whl"),
    ]
    command = [sys.executable, "-I", "-S", str(SCRIPT), *options, "--python", sys.executable]
    good = subprocess.run([*command, "--sha256", wheel.sha256], capture_output=True, text=True, check=False)
    assert (good.returncode, good.stdout, good.stderr) == (0, "", "")
    bad = subprocess.run([*command, "--sha256", "1" * 64], capture_output=True, text=True, check=False)
    assert bad.returncode == 1
    assert bad.stderr.startswith("error: alpha 1.0: the hash of")


def test_user_information_is_redacted_in_every_url() -> None:
    text = "at https://me:pw@host/x and git+ssh://token@host/y, not http://host/a@b"
    assert redact(text) == "at https://****@host/x and git+ssh://****@host/y, not http://host/a@b"
    assert redact("Looking at https://me:p@ss'w\"d@host/x") == "Looking at https://****@host/x"
