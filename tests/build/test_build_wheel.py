"""Building wheels from source archives: what they are made of, and what a build can reach."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from mfbazel.build.cli import main
from mfbazel.build.errors import BuildError
from mfbazel.build.normalise import Built
from mfbazel.build.pep517 import Recipe, build_wheel, check_built, requirements_of
from tests.build.projects import project, sdist
from tests.lock.wheelhouse import wheel


def _build(tmp_path: Path, files: dict[str, str], *requirements: Path, name: str = "alpha") -> Built:
    archive = sdist(tmp_path / "sources", name, "1.0", files)
    output = tmp_path / "out"
    output.mkdir(exist_ok=True)
    return build_wheel(Recipe(archive, requirements, f"{name} 1.0"), output)


def _said(tmp_path: Path, hook: str) -> str:
    """Build with a hook that writes what it finds into the wheel; return that."""
    code = f"{hook}\n(HERE / 'content' / 'said.txt').write_text(str(said))"
    with zipfile.ZipFile(_build(tmp_path, project("alpha", hook=code)).path) as archive:
        return archive.read("said.txt").decode()


def test_a_wheel_holds_what_the_backend_put_into_it(tmp_path: Path) -> None:
    built = _build(tmp_path, project("alpha", requires=["six>=1 ; python_version > '3'", "rich"]))
    assert (built.name, built.version, built.path.name) == ("alpha", "1.0", "alpha-1.0-py3-none-any.whl")
    assert built.requires == ("six>=1 ; python_version > '3'", "rich")
    assert built.pure
    assert built.size == built.path.stat().st_size
    with zipfile.ZipFile(built.path) as archive:
        assert archive.read("alpha.py") == b"version = '1.0'\n"
        assert archive.namelist()[-1] == "alpha-1.0.dist-info/RECORD"
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_the_bytes_do_not_depend_on_place_time_zone_umask_or_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = project("alpha", files={"pkg/__init__.py": "", "pkg/data.txt": "x" * 5000, "zeta.py": ""})
    first = _build(tmp_path / "a", files)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("USER", "another")
    monkeypatch.setenv("LANG", "tr_TR.UTF-8")
    monkeypatch.setenv("PYTHONHASHSEED", "77")
    elsewhere = tmp_path / "tmp"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    old = os.umask(0o077)
    try:
        second = _build(tmp_path / "b", files)
    finally:
        os.umask(old)
    assert first.path.read_bytes() == second.path.read_bytes()
    assert second.path.stat().st_mode & 0o777 == 0o644


def test_a_build_has_no_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        port = server.getsockname()[1]
        hook = f"""
import socket
try:
    socket.create_connection(("127.0.0.1", {port}), timeout=5).close()
    said = "reached"
except OSError as error:
    said = "refused"
"""
        accepted: list[bool] = []
        thread = threading.Thread(target=lambda: accepted.append(_accepts(server)), daemon=True)
        thread.start()
        said = _said(tmp_path, hook)
        if said == "refused":
            assert not accepted
        else:
            assert not _has_namespaces(), "the kernel has network namespaces, and the build reached the network"
            pytest.skip("this kernel gives no namespace to this user")


def _accepts(server: socket.socket) -> bool:
    try:
        server.accept()[0].close()
    except OSError:
        return False
    return True


def _has_namespaces() -> bool:
    """Say whether the kernel gives this user a network of its own."""
    code = "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x10000000 | 0x40000000) != 0)"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_build_sees_no_variable_of_its_user_and_an_empty_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_INDEX_COMPANY_PASSWORD", "hunter2")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    said = _said(tmp_path, "import os\nsaid = sorted(os.environ), os.listdir(os.path.expanduser('~'))")
    names, home = eval(said)
    assert home == []
    assert "UV_INDEX_COMPANY_PASSWORD" not in names
    assert "HTTPS_PROXY" not in names
    assert "TEST_TMPDIR" not in names


def test_what_a_build_leaves_running_ends_with_it(tmp_path: Path) -> None:
    hook = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
said = child.pid
"""
    said = int(_said(tmp_path, hook))
    # In a process namespace of its own the number means nothing out here; where there is none, the session is its own.
    if _has_namespaces():
        commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if _readable(path)]
        assert not [command for command in commands if b"time.sleep(600)" in command], said


def _readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


def test_build_requirements_are_those_that_are_given(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "helper", "2.0")
    given = tmp_path / "wheels" / "helper-2.0-py3-none-any.whl"
    code = "import helper, sys\nsaid = helper.version"
    files = project("alpha", static=["helper>=2"], hook=f"{code}\n(HERE / 'content' / 'said.txt').write_text(said)")
    built = _build(tmp_path, files, given)
    with zipfile.ZipFile(built.path) as archive:
        assert archive.read("said.txt") == b"2.0"


@pytest.mark.parametrize("how", ["static", "asks"])
def test_a_missing_build_requirement_is_named(tmp_path: Path, how: str) -> None:
    wheel(tmp_path / "wheels", "helper", "2.0")
    given = tmp_path / "wheels" / "helper-2.0-py3-none-any.whl"
    files = project("alpha", **{how: ["helper>=3", "other; python_version < '3'"]})  # type: ignore[arg-type]
    with pytest.raises(BuildError, match=r"alpha 1.0: building it requires helper>=3, which .*\(helper 2.0\)"):
        _build(tmp_path, files, given)


def test_requirements_are_those_of_the_project_and_those_that_its_backend_asks_for(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "helper", "2.0")
    given = tmp_path / "wheels" / "helper-2.0-py3-none-any.whl"
    archive = sdist(
        tmp_path, "alpha", "1.0", project("alpha", static=["helper"], asks=["another>=1", "pytest; extra == 'all'"])
    )
    assert requirements_of(Recipe(archive, (), "alpha 1.0")).all == ("helper",)
    assert requirements_of(Recipe(archive, (given,), "alpha 1.0")).all == ("another>=1", "helper")


def test_a_project_without_pyproject_toml_needs_setuptools(tmp_path: Path) -> None:
    archive = sdist(tmp_path, "old", "1.0", {"setup.py": "raise SystemExit('not run')\n"})
    assert requirements_of(Recipe(archive, (), "old 1.0")).all == ("setuptools >= 40.8.0",)


def test_an_error_of_the_backend_is_shown_shortly(tmp_path: Path) -> None:
    hook = "for n in range(1000):\n    print('noise', n)\nraise ValueError('the moon is in the wrong phase')"
    with pytest.raises(BuildError) as caught:
        _build(tmp_path, project("alpha", hook=hook))
    text = str(caught.value)
    assert "alpha 1.0: its build backend failed before it built the wheel" in text
    assert "ValueError: the moon is in the wrong phase" in text
    assert len(text.splitlines()) < 22


@pytest.mark.parametrize(
    ("printed", "advice"),
    [
        (
            "setuptools-scm was unable to detect version for /build",
            "Its version comes from the history of the repository",
        ),
        ("socket.gaierror: Temporary failure in name resolution", "Builds have no network"),
        ("src/x.c:1:10: fatal error: Python.h: No such file or directory", "needs the headers of Python"),
        ("anything else", "A build has only the source"),
    ],
)
def test_the_likely_cause_is_said(tmp_path: Path, printed: str, advice: str) -> None:
    with pytest.raises(BuildError, match=advice):
        _build(tmp_path, project("alpha", hook=f"raise LookupError({printed!r})"))


def test_a_build_that_does_not_end_is_ended(tmp_path: Path) -> None:
    archive = sdist(tmp_path, "alpha", "1.0", project("alpha", hook="import time\ntime.sleep(600)"))
    with pytest.raises(BuildError, match="did not end within 2 s"):
        build_wheel(Recipe(archive, (), "alpha 1.0", timeout=2), tmp_path)


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    _build(tmp_path, project("alpha"))
    with pytest.raises(BuildError):
        _build(tmp_path, project("alpha", hook="raise OSError"))
    assert list(scratch.iterdir()) == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["alpha-1.0-py3-none-any.whl"]


def test_compiled_code_says_which_c_library_it_needs(tmp_path: Path) -> None:
    code = "\x7fELF and symbols GLIBC_2.17 GLIBC_2.34 GLIBC_2.9 "
    hook = f"(HERE / 'content' / 'fast.so').write_bytes({code.encode('latin-1')!r})"
    tag = f"cp3{sys.version_info.minor}-cp3{sys.version_info.minor}-linux_x86_64"
    built = _build(tmp_path, project("alpha", tag=tag, hook=hook))
    assert built.glibc == "2.34"
    assert not built.pure


def test_a_project_may_lie_in_a_subdirectory(tmp_path: Path) -> None:
    files = {f"python/lib/{path}": text for path, text in project("alpha").items()}
    archive = sdist(tmp_path, "repo", "0", files)
    assert build_wheel(Recipe(archive, (), "alpha", "python/lib"), tmp_path).name == "alpha"
    with pytest.raises(BuildError, match="the source has no directory 'python/other'"):
        build_wheel(Recipe(archive, (), "alpha", "python/other"), tmp_path)
    with pytest.raises(BuildError, match="leads out of the source"):
        build_wheel(Recipe(archive, (), "alpha", "../.."), tmp_path)


def test_other_bytes_than_recorded_are_refused_and_what_to_do_is_said(tmp_path: Path) -> None:
    archive = sdist(tmp_path, "alpha", "1.0", project("alpha"))
    output = tmp_path / "out" / "alpha-1.0-py3-none-any.whl"
    arguments = ["wheel", "--source", str(archive), "--name", "alpha", "--version", "1.0", "--output", str(output)]
    with pytest.raises(BuildError, match="gave other bytes than were locked") as caught:
        main([*arguments, "--sha256", "0" * 64])
    assert "Publish a wheel" in str(caught.value)
    assert list(output.parent.iterdir()) == []
    assert main(arguments) == 0
    assert output.is_file()


def test_another_file_name_than_recorded_is_refused(tmp_path: Path) -> None:
    built = _build(tmp_path, project("alpha"))
    with pytest.raises(BuildError, match=r"made alpha-1.0-py3-none-any.whl, locked is alpha-1.0-cp39.*compiled code"):
        check_built(built, "alpha", "1.0", "alpha-1.0-cp39-cp39-linux_x86_64.whl")
    with pytest.raises(BuildError, match=r"builds alpha 1\.0, another distribution or version"):
        check_built(built, "alpha", "1.1")


def test_a_wheel_that_lies_about_its_files_is_refused(tmp_path: Path) -> None:
    files = project("alpha")
    files["backend.py"] = files["backend.py"].replace("_hash(path.read_bytes())", "_hash(b'')")
    with pytest.raises(BuildError, match=r"made a wheel that cannot be installed: .*is not the file that RECORD lists"):
        _build(tmp_path, files)
