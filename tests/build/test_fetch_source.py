"""Fetching sdists with pip's configuration: exactly the locked file, and nothing of it is run."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mfbazel.build.fetch import fetch_sdist, main
from mfbazel.wheel.fetch import FetchError, Wheel, sha256_of
from tests.build.projects import project, repository, sdist
from tests.lock.wheelhouse import use_only

SCRIPT = Path(__file__).absolute().parents[2] / "mfbazel" / "build" / "fetch.py"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index with an sdist that tells when its code runs."""
    directory = use_only(tmp_path / "index", tmp_path, monkeypatch)
    hook = f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).write_text('')"
    files = project("alpha", hook=hook)
    files["setup.py"] = hook
    files["backend.py"] = f"{hook}\n{files['backend.py']}"
    sdist(directory, "alpha", "1.0", files)
    return directory


def _asked(index: Path, **changes: str) -> Wheel:
    sha256 = sha256_of(index / "alpha-1.0.tar.gz")
    return Wheel("alpha", "1.0", "alpha-1.0.tar.gz", sha256)._replace(**changes)


def test_the_locked_file_is_fetched_and_nothing_of_it_runs(index: Path, tmp_path: Path) -> None:
    output = fetch_sdist(_asked(index), tmp_path / "out" / "alpha-1.0.tar.gz")
    assert output.read_bytes() == (index / "alpha-1.0.tar.gz").read_bytes()
    assert not (tmp_path / "ran").exists()
    assert [path.name for path in output.parent.iterdir()] == ["alpha-1.0.tar.gz"]


def test_what_was_fetched_once_needs_no_index(index: Path, tmp_path: Path) -> None:
    asked = _asked(index)
    fetch_sdist(asked, tmp_path / "one.tar.gz")
    (index / "alpha-1.0.tar.gz").unlink()
    assert sha256_of(fetch_sdist(asked, tmp_path / "two.tar.gz")) == asked.sha256


def test_another_file_is_not_used(index: Path, tmp_path: Path) -> None:
    other = hashlib.sha256(b"").hexdigest()
    with pytest.raises(FetchError, match=r"alpha 1.0: the hash of alpha-1\.0\.tar\.gz differs") as caught:
        fetch_sdist(_asked(index, sha256=other), tmp_path / "out.tar.gz")
    assert sha256_of(index / "alpha-1.0.tar.gz") in str(caught.value)
    assert "--upgrade-package alpha" in str(caught.value)
    assert not (tmp_path / "out.tar.gz").exists()


def test_a_deleted_file_is_said(index: Path, tmp_path: Path) -> None:
    (index / "alpha-1.0.tar.gz").rename(index / "alpha-1.1.tar.gz")
    with pytest.raises(FetchError, match=r"no configured index has alpha-1\.0\.tar\.gz any more"):
        fetch_sdist(_asked_of(index / "alpha-1.1.tar.gz"), tmp_path / "out.tar.gz")


def _asked_of(path: Path) -> Wheel:
    return Wheel("alpha", "1.0", "alpha-1.0.tar.gz", sha256_of(path))


def test_an_index_that_cannot_be_reached_is_said_and_no_credentials(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:hunter2@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(FetchError, match="was not downloaded: Could not fetch URL") as caught:
        fetch_sdist(_asked(index), tmp_path / "out.tar.gz")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "changes", [{"sha256": "abc"}, {"file": "../x.tar.gz"}, {"file": "alpha-1.0-py3-none-any.whl"}]
)
def test_bad_arguments_are_refused(index: Path, tmp_path: Path, changes: dict[str, str]) -> None:
    with pytest.raises(FetchError, match="is not"):
        fetch_sdist(_asked(index, **changes), tmp_path / "out.tar.gz")


def test_an_interpreter_without_pip_is_said(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    with pytest.raises(FetchError, match="has no pip"):
        fetch_sdist(_asked(index), tmp_path / "out.tar.gz", str(bare / "bin" / "python"))


def test_it_runs_as_a_script_that_knows_nothing_but_its_own_place(index: Path, tmp_path: Path) -> None:
    asked = _asked(index)
    output = tmp_path / "out.tar.gz"
    command = [sys.executable, str(SCRIPT), "sdist", "--name", "alpha", "--version", "1.0", "--file", asked.file]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    pip = [path for path in sys.path if (Path(path) / "pip").is_dir()]
    environment["PYTHONPATH"] = os.pathsep.join(pip)
    done = subprocess.run(
        [*command, "--sha256", asked.sha256, "--output", str(output)], env=environment, cwd=tmp_path, check=False
    )
    assert done.returncode == 0
    assert sha256_of(output) == asked.sha256


def test_commits_are_fetched_by_the_same_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commit = repository(tmp_path / "r", {"a": "1"})
    arguments = ["git", "--url", (tmp_path / "r").as_uri(), "--output", str(tmp_path / "a.tar"), "--commit"]
    assert main([*arguments, commit]) == 0
    assert main([*arguments, "0" * 40]) == 1
    assert "error: " in capsys.readouterr().err
