"""What goes wrong between an index and a lock: each error says what, where and what to do; the old lock stays whole."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mfbazel.wheel import fetch
from tests.lock.index_server import Authority, Fault, Index, forget_configuration, running
from tests.lock.wheelhouse import wheel

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
MACHINE = {"aarch64": "linux/arm64"}.get(os.uname().machine, "linux/amd64")
ALPHA = "alpha-1.0-py3-none-any.whl"
_OLD_LOCK: dict[str, bytes] = {}
"""What the command line wrote for the first test that has an old lock; the others begin with a copy."""


@dataclass
class Bench:
    """A lock of one environment, made by the command line against an index."""

    root: Path
    index: Index
    monkeypatch: pytest.MonkeyPatch

    @property
    def directory(self) -> Path:
        return self.root / "x.lock"

    def command(self, *requirements: str) -> list[str]:
        spec = self.root / "spec.json"
        environments = {"tools": {"python": HERE, "requirements": list(requirements)}}
        spec.write_text(json.dumps({"environments": environments, "platforms": [MACHINE]}), encoding="utf-8")
        arguments = ["--spec", str(spec), "--lock-dir", str(self.directory), "--label", "//x:x"]
        return [sys.executable, "-m", "mfbazel.lock", "environments", *arguments]

    def environment(self, **variables: str) -> dict[str, str]:
        path = os.pathsep.join([str(self.root / "site"), *(item or str(Path.cwd()) for item in sys.path)])
        return {**os.environ, "PYTHONPATH": path, **variables}

    def run(self, command: Sequence[str], code: int = 0, **variables: str) -> str:
        result = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert result.returncode == code, result.stdout
        assert "Traceback" not in result.stdout
        return result.stdout

    def lock(self, *requirements: str, options: Sequence[str] = (), code: int = 0, **variables: str) -> str:
        return self.run([*self.command(*requirements), *options], code, **variables)

    def fetch(self, file: str = ALPHA, sha256: str = "", code: int = 0) -> str:
        name, version = file.split("-")[:2]
        sha256 = sha256 or hashlib.sha256((self.index.directory / file).read_bytes()).hexdigest()
        arguments = ["--name", name, "--version", version, "--file", file, "--sha256", sha256]
        output = self.root / "out" / file
        text = self.run([sys.executable, fetch.__file__, *arguments, "--output", str(output)], code)
        assert output.exists() == (code == 0)
        assert [path.name for path in output.parent.iterdir()] == ([file] if code == 0 else [])
        return text

    def content(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.directory.iterdir()} if self.directory.is_dir() else {}

    def old_lock(self) -> dict[str, bytes]:
        """Have a lock of gamma from before; return its content."""
        if not _OLD_LOCK:
            self.lock("gamma")
            _OLD_LOCK.update(self.content())
        self.directory.mkdir(exist_ok=True)
        for name, content in _OLD_LOCK.items():
            (self.directory / name).write_bytes(content)
        return self.content()

    def versions(self) -> dict[str, str]:
        document: dict[str, Any] = json.loads((self.directory / "flow.json").read_text(encoding="utf-8"))
        return {entry["name"]: entry["version"] for entry in document["wheels"].values()}

    def leftovers(self) -> list[str]:
        beside = [path.name for path in self.root.iterdir() if path.name.startswith(".")]
        return beside + [path.name for path in (self.root / "home" / "TMPDIR").iterdir()]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """An index of a few packages; pip and uv know no other."""
    forget_configuration(tmp_path / "home", monkeypatch)
    monkeypatch.setenv("MFBAZEL_WHEEL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "out").mkdir()
    with running(tmp_path / "wheels") as index:
        wheel(index.directory, "alpha", "1.0", ("beta",))
        wheel(index.directory, "beta", "1.0")
        wheel(index.directory, "gamma", "1.0")
        monkeypatch.setenv("PIP_INDEX_URL", index.url())
        yield Bench(tmp_path, index, monkeypatch)


@pytest.mark.parametrize("kind", ["drop", "refuse", "truncate"])
@pytest.mark.parametrize("path", ["/simple/beta/", r"/packages/beta"])
def test_an_index_that_goes_away_in_the_middle_leaves_the_old_lock(bench: Bench, kind: str, path: str) -> None:
    before = bench.old_lock()
    bench.index.faults.append(Fault(path, kind))
    text = bench.lock("alpha", code=1)
    assert "step 'tools': a package index could not be reached, so nothing was locked" in text
    assert "beta" in text
    assert "see `python3 -m pip config list` and the PIP_* and UV_* environment variables" in text
    assert bench.content() == before
    assert bench.leftovers() == []
    bench.index.faults.clear()
    bench.lock("alpha")
    assert bench.versions() == {"alpha": "1.0", "beta": "1.0"}


@pytest.mark.skipif(sys.platform != "linux", reason="pip-tools resolves for the machine it runs on")
def test_pip_tools_does_not_go_on_without_an_index_that_went_away(bench: Bench) -> None:
    wheel(bench.root / "second", "alpha", "0.5")
    with running(bench.root / "second") as second:
        bench.monkeypatch.setenv("PIP_EXTRA_INDEX_URL", second.url())
        bench.index.faults.append(Fault("/simple/alpha/", "drop"))
        text = bench.lock("alpha", options=["--resolver", "pip-tools"], code=1)
        assert "a package index could not be reached, so nothing was locked" in text
        assert not bench.directory.exists()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncate", "alpha 1.0: the package index could not be reached: Download failed after"),
        ("corrupt", "alpha 1.0: the hash of alpha-1.0-py3-none-any.whl differs"),
        ("drop", "alpha 1.0: the package index could not be reached: Failed to connect to 127.0.0.1"),
        ("refuse", "alpha 1.0: the package index could not be reached"),
    ],
)
def test_a_download_that_fails_leaves_neither_output_nor_cache(bench: Bench, kind: str, message: str) -> None:
    bench.index.faults.append(Fault(f"/packages/{ALPHA}", kind))
    assert message in bench.fetch(code=1)
    assert not (bench.root / "cache").exists()
    bench.index.faults.clear()
    bench.fetch()


@pytest.mark.parametrize("kind", ["drop", "refuse"])
def test_a_download_without_the_indexs_page_is_no_deleted_release(bench: Bench, kind: str) -> None:
    bench.index.faults.append(Fault("/simple/alpha/", kind))
    text = bench.fetch(code=1)
    assert f"alpha 1.0: the package index could not be reached: {bench.index.url()}alpha/: " in text


def test_a_wrong_hash_on_the_index_is_found_when_the_wheel_is_downloaded(bench: Bench) -> None:
    """The page names the hash of another content; the lock has it, and nothing is built from what it does not match."""
    wrong = "0" * 64
    bench.index.faults.append(
        Fault(
            "/simple/alpha/", "rewrite", change=lambda body: re.sub(rb"sha256=\w+", b"sha256=" + wrong.encode(), body)
        )
    )
    bench.lock("alpha")
    assert wrong in json.loads(bench.content()["flow.json"])["wheels"]
    text = bench.fetch(sha256=wrong, code=1)
    assert f"locked:   sha256:{wrong}" in text
    assert "was not used" in text


def test_a_yanked_release_is_kept_while_it_is_locked_and_that_is_said(bench: Bench) -> None:
    wheel(bench.index.directory, "beta", "0.5")
    bench.lock("alpha")
    bench.index.faults.append(Fault("/simple/beta/", "yank", file="beta-1.0.*"))
    text = bench.lock("alpha", "gamma")
    assert "warning: `beta==1.0` is yanked" in text
    assert bench.versions() == {"alpha": "1.0", "beta": "1.0", "gamma": "1.0"}
    bench.lock("alpha", "gamma", options=["--upgrade"])
    assert bench.versions()["beta"] == "0.5"


def test_a_deleted_release_stays_locked_until_something_changes_and_the_build_says_so(bench: Bench) -> None:
    bench.lock("alpha")
    before = bench.content()
    sha256 = hashlib.sha256((bench.index.directory / ALPHA).read_bytes()).hexdigest()
    (bench.index.directory / ALPHA).unlink()
    wheel(bench.index.directory, "alpha", "0.9")
    bench.lock("alpha")
    assert bench.content() == before
    text = bench.fetch(sha256=sha256, code=1)
    assert f"alpha 1.0: no configured index has {ALPHA} any more" in text
    assert "`-- --upgrade-package alpha`" in text
    text = bench.lock("alpha", "gamma")
    assert "warning: alpha 1.0, which was locked, is on no index any more" in text
    assert "alpha 1.0 → 0.9" in text


@pytest.mark.parametrize("first", [True, False])
def test_two_indexes_that_disagree_give_one_lock_whose_wheel_is_found_by_hash(bench: Bench, first: bool) -> None:
    wheel(bench.root / "second", "alpha", "1.0", modules=["other"])
    with running(bench.root / "second") as second:
        urls = [bench.index.url(), second.url()] if first else [second.url(), bench.index.url()]
        bench.monkeypatch.setenv("PIP_INDEX_URL", urls[0])
        bench.monkeypatch.setenv("PIP_EXTRA_INDEX_URL", urls[1])
        bench.lock("alpha")
        before = bench.content()
        [sha256] = [sha for sha, entry in json.loads(before["flow.json"])["wheels"].items() if entry["name"] == "alpha"]
        bench.fetch(sha256=sha256)
        bench.monkeypatch.setenv("PIP_INDEX_URL", urls[1])
        bench.monkeypatch.setenv("PIP_EXTRA_INDEX_URL", urls[0])
        bench.monkeypatch.setenv("MFBAZEL_WHEEL_CACHE", str(bench.root / "cache2"))
        bench.lock("alpha")
        assert bench.content() == before
        bench.fetch(sha256=sha256)


LIMITED = """
import resource, sys
from mfbazel.errors import run_front
from mfbazel.lock import cli, command, writer

def limited(*arguments, _write=writer.write_directory):
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
    return _write(*arguments)

command.write_directory = limited
sys.argv = sys.argv[1:]
run_front(cli.main)
"""


def test_a_full_disk_while_writing_leaves_the_old_lock(bench: Bench) -> None:
    before = bench.old_lock()
    text = bench.run([sys.executable, "-c", LIMITED, *bench.command("alpha")[2:]], code=1)
    assert f"cannot write the lock {bench.directory}: File too large; the old lock is as it was" in text
    assert bench.content() == before
    assert bench.leftovers() == []


def limit_files(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("size", [10, 300])
def test_a_disk_that_is_full_for_the_resolver_is_an_error(bench: Bench, size: int) -> None:
    before = bench.old_lock()
    result = subprocess.run(
        bench.command("alpha"),
        env=bench.environment(),
        cwd=bench.root,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit_files(size),
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert re.search("File too large|SIGXFSZ", result.stderr)
    assert bench.content() == before


KILL = """
import os, re, signal, sys
_event, _, _text = os.environ.get("MFBAZEL_TEST_KILL", "").partition(":")
def _hook(event, arguments):
    if event == _event and re.search(_text, str(arguments[0])):
        os.kill(os.getpid(), signal.SIGKILL)
if _event:
    sys.addaudithook(_hook)
"""


@pytest.mark.parametrize(
    ("moment", "renewed"),
    [
        ("subprocess.Popen:uv", False),
        ("open:resolved.txt", False),
        ("os.mkdir:[.]x.lock.new-", False),
        ("open:new-.*/flow.json", False),
        ("open:new-.*/tools.txt", False),
        ("shutil.rmtree:[.]x.lock.new-", True),
    ],
)
def test_killed_at_any_moment_there_is_a_whole_lock_and_the_next_run_cleans_up(
    bench: Bench, moment: str, renewed: bool
) -> None:
    (bench.root / "site").mkdir()
    (bench.root / "site" / "sitecustomize.py").write_text(KILL, encoding="utf-8")
    before = bench.old_lock()
    bench.lock("alpha", code=-signal.SIGKILL, MFBAZEL_TEST_KILL=moment)
    killed = bench.content()
    assert (killed != before) == renewed
    assert set(killed) == {"flow.json", "tools.txt"}
    bench.lock("alpha")
    assert bench.versions() == {"alpha": "1.0", "beta": "1.0"}
    assert bench.leftovers() == []
    if renewed:
        assert bench.content() == killed


def test_killed_while_an_index_answers_nothing_is_left(bench: Bench) -> None:
    before = bench.old_lock()
    running_now: list[subprocess.Popen[bytes]] = []
    bench.index.faults.append(Fault("/simple/beta/", "drop", on_hit=lambda: running_now[0].kill()))
    process = subprocess.Popen(
        bench.command("alpha"),
        env=bench.environment(),
        cwd=bench.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    running_now.append(process)
    assert process.wait(60) == -signal.SIGKILL
    assert bench.content() == before
    bench.index.faults.clear()
    bench.lock("alpha")
    assert bench.leftovers() == []


@pytest.mark.parametrize(
    ("days", "hint"),
    [
        ((1, 400), "the index's certificate is not valid yet: is this machine's clock right?"),
        ((-400, -1), "the index's certificate has expired, or this machine's clock is wrong"),
    ],
)
def test_a_clock_that_a_certificate_does_not_agree_with_is_named(
    bench: Bench, days: tuple[int, int], hint: str
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    begins, ends = (now + datetime.timedelta(days=number) for number in days)
    authority = Authority(bench.root / "authority")
    bench.monkeypatch.setenv("PIP_CERT", str(authority.file))
    with running(bench.index.directory, tls=authority.server(begins=begins, ends=ends)) as index:
        bench.monkeypatch.setenv("PIP_INDEX_URL", index.url())
        assert hint in bench.lock("alpha", code=1)
        text = bench.fetch(code=1)
    assert "alpha 1.0: the package index could not be reached" in text
    assert "not yet valid" in text or "expired" in text


def test_the_time_of_day_is_not_in_a_lock(bench: Bench) -> None:
    bench.lock("alpha")
    before = bench.content()
    for file in bench.directory.iterdir():
        file.unlink()
    (bench.root / "site").mkdir()
    (bench.root / "site" / "sitecustomize.py").write_text(
        "import time\n_now = time.time\ntime.time = lambda: _now() - 20 * 365 * 86400\n", encoding="utf-8"
    )
    bench.lock("alpha")
    assert bench.content() == before


def test_without_network_what_the_caches_have_is_enough_and_that_is_said(bench: Bench) -> None:
    bench.lock("alpha", "gamma")
    unchanged = bench.content()
    bench.index.faults.append(Fault("/", "drop"))
    bench.lock("alpha", "gamma")
    assert bench.content() == unchanged
    text = bench.lock("alpha")
    assert "warning: a package index could not be reached; uv's cache has what was needed of it" in text
    assert bench.versions() == {"alpha": "1.0", "beta": "1.0"}
    before = bench.content()
    text = bench.lock("alpha", "delta", code=1)
    assert "a package index could not be reached, so nothing was locked" in text
    assert bench.content() == before


def test_without_network_another_place_does_not_stand_in_for_what_was_never_asked(bench: Bench) -> None:
    """A directory of files has the package as well; whether the index has a better one is not known."""
    wheel(bench.root / "links", "delta", "1.0")
    bench.lock("alpha")
    bench.monkeypatch.setenv("PIP_FIND_LINKS", str(bench.root / "links"))
    bench.index.faults.append(Fault("/", "drop"))
    text = bench.lock("delta", code=1)
    assert "a package index could not be reached, so nothing was locked" in text
