"""Locks of what has no wheel on an index: sdists and commits, only where `build` allows it, pinned like the rest."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mfbazel.lock import cli
from mfbazel.lock.errors import LockError
from mfbazel.wheel.fetch import cache_directory, sha256_of
from tests.build.projects import commit, git, project, repository, sdist
from tests.lock.wheelhouse import use_only, wheel

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
TAG = f"cp3{sys.version_info.minor}-cp3{sys.version_info.minor}-linux_x86_64"


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index with wheels of some distributions, and an sdist of `sourced`, which needs `helper` to be built."""
    directory = tmp_path / "index"
    for name in ("alpha", "helper", "beta"):
        wheel(directory, name, "1.0")
    files = project("sourced", requires=["alpha"], static=["helper"], hook=counting(tmp_path))
    sdist(directory, "sourced", "1.0", files)
    return use_only(directory, tmp_path / "home", monkeypatch)


def counting(tmp_path: Path) -> str:
    """Code that says when a wheel is built."""
    return f"with open({str(tmp_path / 'built')!r}, 'a') as f: f.write('.')"


def builds(tmp_path: Path) -> int:
    path = tmp_path / "built"
    return len(path.read_text()) if path.exists() else 0


def spec(tmp_path: Path, python: str = HERE, **environments: list[str]) -> None:
    table = {name: {"python": python, "requirements": found} for name, found in environments.items()}
    (tmp_path / "spec.json").write_text(json.dumps({"environments": table}))


def run(tmp_path: Path, *options: str, lock: str = "tools.lock") -> int:
    arguments = ["--spec", str(tmp_path / "spec.json"), "--lock-dir", str(tmp_path / lock), "--label", "//:tools"]
    return cli.main(["environments", *arguments, *options])


def document(tmp_path: Path, lock: str = "tools.lock") -> dict[str, Any]:
    read: dict[str, Any] = json.loads((tmp_path / lock / "flow.json").read_text())
    return read


def of(name: str, tmp_path: Path, lock: str = "tools.lock") -> dict[str, Any]:
    """Return the wheel of ``name``, with its hash."""
    found = [
        {**entry, "sha256": sha} for sha, entry in document(tmp_path, lock)["wheels"].items() if entry["name"] == name
    ]
    assert len(found) == 1
    return found[0]


def texts(tmp_path: Path, lock: str = "tools.lock") -> dict[str, str]:
    return {path.name: path.read_text() for path in (tmp_path / lock).iterdir()}


@pytest.mark.parametrize("resolver", ["uv", "pip-tools"])
def test_an_sdist_is_not_built_without_being_asked_and_the_error_names_the_attribute(
    tmp_path: Path, resolver: str
) -> None:
    spec(tmp_path, a=["sourced"])
    with pytest.raises(LockError, match=r"attribute `build = \[\"sourced\"\]`") as caught:
        run(tmp_path, "--resolver", resolver)
    assert "which runs its code" in str(caught.value)
    assert "mfbazel.toml" in str(caught.value)
    assert builds(tmp_path) == 0
    assert not (tmp_path / "tools.lock").exists()


def test_what_has_neither_wheel_nor_sdist_is_not_said_to_be_buildable(tmp_path: Path, index: Path) -> None:
    wheel(index, "foreign", "1.0", tag="cp39-cp39-win_amd64")
    spec(tmp_path, a=["foreign"])
    with pytest.raises(LockError) as caught:
        run(tmp_path)
    assert "no wheel for linux/amd64" in str(caught.value)
    assert "`build" not in str(caught.value)


def test_an_sdist_is_locked_with_the_wheel_that_it_becomes_and_what_building_it_requires(
    tmp_path: Path, index: Path
) -> None:
    spec(tmp_path, a=["sourced"])
    assert run(tmp_path, "--build", "Sourced") == 0
    found = of("sourced", tmp_path)
    archive = index / "sourced-1.0.tar.gz"
    assert found["file"] == "sourced-1.0-py3-none-any.whl"
    assert found["source"] == {
        "kind": "sdist",
        "file": "sourced-1.0.tar.gz",
        "sha256": sha256_of(archive),
        "size": archive.stat().st_size,
        "requires": "_build.sourced-1.0",
    }
    entry = document(tmp_path)["environments"]["_build.sourced-1.0"]
    assert entry["requirements"] == ["helper"]
    assert entry["python"] == HERE
    assert entry["wheels"] == {"linux/amd64": [of("helper", tmp_path)["sha256"]]}
    layers = document(tmp_path)["layers"]["linux/amd64"]
    assert {name for layer in layers for name in layer["environments"]} == {"a"}
    assert of("helper", tmp_path)["sha256"] not in {sha for layer in layers for sha in layer["wheels"]}


def test_the_requirements_file_takes_the_sdist_and_the_wheel(tmp_path: Path, index: Path) -> None:
    spec(tmp_path, a=["sourced"])
    run(tmp_path, "--build", "sourced")
    text = (tmp_path / "tools.lock" / "a.txt").read_text()
    assert "# sourced: built from sourced-1.0.tar.gz\nsourced==1.0 \\\n" in text
    assert f"--hash=sha256:{sha256_of(index / 'sourced-1.0.tar.gz')}" in text
    assert f"--hash=sha256:{of('sourced', tmp_path)['sha256']}" in text
    assert "alpha==1.0" in text
    assert "helper" not in text
    assert "helper==1.0" in (tmp_path / "tools.lock" / "_build.sourced-1.0.txt").read_text()


def test_same_input_same_bytes_with_either_resolver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec(tmp_path, a=["sourced"], b=["sourced", "beta"])
    run(tmp_path, "--build", "sourced")
    assert builds(tmp_path) == 1  # for both environments
    monkeypatch.setenv("MFBAZEL_WHEEL_CACHE", str(tmp_path / "another cache"))
    run(tmp_path, "--build", "sourced", lock="again.lock")
    run(tmp_path, "--build", "sourced", "--resolver", "pip-tools", lock="pip.lock")
    assert texts(tmp_path) == texts(tmp_path, "again.lock")
    pip = texts(tmp_path, "pip.lock")
    pip["flow.json"] = pip["flow.json"].replace('"resolver": "pip-tools"', '"resolver": "uv"')
    assert texts(tmp_path) == pip


def test_what_was_built_is_not_built_again_when_something_else_changes(tmp_path: Path, index: Path) -> None:
    spec(tmp_path, a=["sourced"])
    run(tmp_path, "--build", "sourced")
    before = of("sourced", tmp_path)
    assert run(tmp_path, "--build", "sourced", "--check") == 0
    wheel(index, "helper", "2.0")
    spec(tmp_path, a=["sourced", "beta"])
    run(tmp_path, "--build", "sourced")
    assert builds(tmp_path) == 1
    assert of("sourced", tmp_path) == before
    assert of("helper", tmp_path)["version"] == "1.0"
    run(tmp_path, "--build", "sourced", "--upgrade-package", "sourced")
    assert builds(tmp_path) == 2
    assert of("helper", tmp_path)["version"] == "2.0"


def test_a_build_requirement_that_a_bot_raised_is_built_with(tmp_path: Path, index: Path) -> None:
    spec(tmp_path, a=["sourced"])
    run(tmp_path, "--build", "sourced")
    wheel(index, "helper", "2.0")
    path = tmp_path / "tools.lock" / "_build.sourced-1.0.txt"
    path.write_text(path.read_text().replace("helper==1.0", "helper==2.0"))
    assert run(tmp_path, "--build", "sourced", "--check") == 1
    run(tmp_path, "--build", "sourced")
    assert of("helper", tmp_path)["version"] == "2.0"
    assert builds(tmp_path) == 2 + 1  # --check builds as well


def test_constraints_of_the_policy_hold_for_build_requirements(tmp_path: Path, index: Path) -> None:
    wheel(index, "helper", "2.0")
    (tmp_path / "constraints.txt").write_text("helper<2\n")
    policy = tmp_path / "mfbazel.toml"
    policy.write_text('[lock]\nconstraints = ["constraints.txt"]\nbuild = ["sourced"]\n')
    spec(tmp_path, a=["sourced"])
    run(tmp_path, "--policy", str(policy))
    assert of("helper", tmp_path)["version"] == "1.0"
    assert document(tmp_path)["environments"]["_build.sourced-1.0"]["policy"] == {"constraints": ["helper<2"]}
    (tmp_path / "constraints.txt").write_text("helper<3\n")
    run(tmp_path, "--policy", str(policy))
    assert of("helper", tmp_path)["version"] == "2.0"


def test_an_sdist_of_a_policys_index_comes_from_there_alone(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    place = tmp_path / "served" / "own" / "sourced"
    place.mkdir(parents=True)
    (index / "sourced-1.0.tar.gz").rename(place / "sourced-1.0.tar.gz")
    (place / "index.html").write_text('<a href="sourced-1.0.tar.gz">sourced-1.0.tar.gz</a>')

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            asked.append(format % arguments)

    handler = functools.partial(Handler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = f"http://127.0.0.1:{server.server_address[1]}"
        policy = tmp_path / "mfbazel.toml"
        pinned = f'[[lock.index]]\nname = "own"\nurl = "{here}/own"\npackages = ["sourced"]\n'
        policy.write_text(f'[lock]\nbuild = ["sourced"]\n{pinned}')
        monkeypatch.setenv("PIP_NO_INDEX", "0")
        monkeypatch.setenv("PIP_INDEX_URL", f"{here}/public")
        spec(tmp_path, a=["sourced"])
        try:
            run(tmp_path, "--policy", str(policy))
        finally:
            server.shutdown()
    assert of("sourced", tmp_path)["source"]["file"] == "sourced-1.0.tar.gz"
    assert document(tmp_path)["environments"]["a"]["policy"]["indexes"] == {"sourced": "own"}
    assert any("/own/sourced/sourced-1.0.tar.gz" in line for line in asked)
    assert not any("/public/sourced/" in line for line in asked)


def test_build_takes_the_sdist_also_where_there_is_a_wheel(tmp_path: Path, index: Path) -> None:
    wheel(index, "sourced", "1.0", requires=["alpha"])
    spec(tmp_path, a=["sourced"])
    run(tmp_path)
    assert "source" not in of("sourced", tmp_path)
    run(tmp_path, "--build", "sourced", lock="built.lock")
    assert of("sourced", tmp_path, "built.lock")["source"]["kind"] == "sdist"
    # The attribute is part of what the lock is made from.
    assert run(tmp_path, "--build", "sourced", "--check") == 1


@pytest.mark.parametrize("resolver", ["uv", "pip-tools"])
def test_what_is_to_be_built_and_has_no_sdist_is_said(tmp_path: Path, resolver: str) -> None:
    spec(tmp_path, a=["alpha"])
    with pytest.raises(LockError, match=r"`build` .* has alpha: it is built from its sdist, and no index has one"):
        run(tmp_path, "--build", "alpha", "--resolver", resolver)


def test_build_requirements_that_have_no_wheel_are_said(tmp_path: Path, index: Path) -> None:
    sdist(index, "needy", "1.0", project("needy", static=["sourced>=1"]))
    spec(tmp_path, a=["needy"])
    with pytest.raises(LockError) as caught:
        run(tmp_path, "--build", "needy")
    assert "sourced" in str(caught.value)
    assert builds(tmp_path) == 0


def test_a_failing_build_names_the_distribution(tmp_path: Path, index: Path) -> None:
    sdist(index, "broken", "1.0", project("broken", hook="raise ValueError('no such compiler')"))
    spec(tmp_path, a=["broken"])
    with pytest.raises(LockError, match=r"(?s)'broken', which is built from source: .*ValueError: no such compiler"):
        run(tmp_path, "--build", "broken")
    assert not (tmp_path / "tools.lock").exists()


def test_compiled_code_is_only_for_the_python_that_builds(tmp_path: Path, index: Path) -> None:
    sdist(index, "fast", "1.0", project("fast", tag=TAG))
    spec(tmp_path, a=["fast"])
    run(tmp_path, "--build", "fast")
    assert of("fast", tmp_path)["file"] == f"fast-1.0-{TAG}.whl"
    other = "3.12" if HERE != "3.12" else "3.13"
    spec(tmp_path, other, a=["fast"])
    with pytest.raises(LockError, match=rf"compiled code is for the Python .* not for Python {other} on linux/amd64"):
        run(tmp_path, "--build", "fast")


def test_compiled_code_that_needs_a_newer_c_library_is_refused(tmp_path: Path, index: Path) -> None:
    code = (b"\x7fELF GLIBC_2.17 GLIBC_2.38 ").decode("latin-1")
    hook = f"(HERE / 'content' / 'fast.so').write_bytes({code.encode('latin-1')!r})"
    sdist(index, "fast", "1.0", project("fast", tag=TAG, hook=hook))
    spec(tmp_path, a=["fast"])
    with pytest.raises(LockError, match=r"needs glibc 2\.38, images may have 2\.28 \(attribute `glibc`\)"):
        run(tmp_path, "--build", "fast")
    run(tmp_path, "--build", "fast", "--glibc", "2.38")


def test_one_build_serves_two_platforms_where_there_is_no_compiled_code(tmp_path: Path) -> None:
    spec(tmp_path, a=["sourced"])
    run(tmp_path, "--build", "sourced", "--platform", "linux/amd64", "--platform", "linux/arm64")
    assert builds(tmp_path) == 1
    sha256 = of("sourced", tmp_path)["sha256"]
    wheels = document(tmp_path)["environments"]["a"]["wheels"]
    assert all(sha256 in wheels[platform] for platform in ("linux/amd64", "linux/arm64"))
    assert len(document(tmp_path)["environments"]["_build.sourced-1.0"]["wheels"]) == 1
    assert run(tmp_path, "--build", "sourced", "--platform", "linux/amd64", "--platform", "linux/arm64", "--check") == 0


def test_a_wheel_that_requires_what_its_sdist_did_not_say_is_refused(tmp_path: Path, index: Path) -> None:
    files = project("moody", requires=["alpha"], hook="REQUIRES.append('beta>=1')")
    files["backend.py"] = files["backend.py"].replace('"HERE": HERE', '"HERE": HERE, "REQUIRES": REQUIRES')
    sdist(index, "moody", "1.0", files)
    spec(tmp_path, a=["moody"])
    with pytest.raises(LockError, match=r"requires beta>=1; the resolver left that out: .*Require beta>=1 yourself"):
        run(tmp_path, "--build", "moody")
    spec(tmp_path, a=["moody", "beta>=1"])
    assert run(tmp_path, "--build", "moody") == 0


def pip_install(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "install", "--require-hashes", "--target", str(tmp_path / "site")]
    command += ["--requirement", str(tmp_path / "tools.lock" / "a.txt"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_pip_takes_the_requirements_file_and_builds_the_sdist(tmp_path: Path) -> None:
    spec(tmp_path, a=["sourced"])
    run(tmp_path, "--build", "sourced")
    done = pip_install(tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "sourced.py").is_file()


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A git repository with the project `forked` in a subdirectory."""
    files = project("forked", requires=["alpha"], static=["helper"], hook=counting(tmp_path))
    repository(tmp_path / "origin", {f"python/{name}": text for name, text in files.items()})
    return tmp_path / "origin"


def forked(origin: Path, revision: str = "@main") -> str:
    return f"forked @ git+{origin.as_uri()}{revision}#subdirectory=python"


def test_a_repository_is_not_built_without_being_asked_and_the_error_names_the_attribute(
    tmp_path: Path, origin: Path
) -> None:
    spec(tmp_path, a=[forked(origin)])
    with pytest.raises(LockError, match=r"spec.json: environment 'a': .*attribute `build = \[\"forked\"\]`"):
        run(tmp_path)
    assert builds(tmp_path) == 0


@pytest.mark.parametrize("resolver", ["uv", "pip-tools"])
def test_a_branch_is_pinned_to_its_commit(tmp_path: Path, origin: Path, resolver: str) -> None:
    spec(tmp_path, a=[forked(origin)])
    run(tmp_path, "--build", "forked", "--resolver", resolver)
    head = git(origin, "rev-parse", "HEAD")
    found = of("forked", tmp_path)
    assert found["source"] == {
        "kind": "git",
        "url": origin.as_uri(),
        "revision": "main",
        "commit": head,
        "subdirectory": "python",
        "requires": f"_build.forked-{head[:12]}",
    }
    text = (tmp_path / "tools.lock" / "a.txt").read_text()
    assert (
        f"# forked: built from git+{origin.as_uri()}@{head}\nforked==1.0 \\\n    --hash=sha256:{found['sha256']}\n"
        in text
    )
    assert "alpha==1.0" in text
    assert str(tmp_path / "home") not in json.dumps(texts(tmp_path))
    assert run(tmp_path, "--build", "forked", "--resolver", resolver, "--check") == 0


def test_a_branch_stays_where_it_was_until_it_is_upgraded(tmp_path: Path, origin: Path) -> None:
    spec(tmp_path, a=[forked(origin)])
    run(tmp_path, "--build", "forked")
    before = of("forked", tmp_path)
    moved = commit(origin, {"python/content/new.py": "x = 1\n"})
    spec(tmp_path, a=[forked(origin), "beta"])
    run(tmp_path, "--build", "forked")
    assert of("forked", tmp_path) == before
    assert builds(tmp_path) == 1
    run(tmp_path, "--build", "forked", "--upgrade-package", "forked")
    assert of("forked", tmp_path)["source"]["commit"] == moved
    assert of("forked", tmp_path)["sha256"] != before["sha256"]
    assert [name for name in document(tmp_path)["environments"] if name.startswith("_")] == [
        f"_build.forked-{moved[:12]}"
    ]


def test_another_revision_in_the_requirement_moves_it(tmp_path: Path, origin: Path) -> None:
    first = git(origin, "rev-parse", "HEAD")
    moved = commit(origin, {"python/content/new.py": "x = 1\n"})
    for revision, expected in [(f"@{first}", first), ("@main", moved), ("", moved)]:
        spec(tmp_path, a=[forked(origin, revision)])
        run(tmp_path, "--build", "forked")
        assert of("forked", tmp_path)["source"]["commit"] == expected


def test_a_wheel_that_is_gone_from_the_cache_is_built_again_and_the_same(
    tmp_path: Path, origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec(tmp_path, a=[forked(origin)])
    run(tmp_path, "--build", "forked")
    before = of("forked", tmp_path)
    commit(origin, {"python/content/new.py": "x = 1\n"})
    monkeypatch.setenv("MFBAZEL_WHEEL_CACHE", str(tmp_path / "another cache"))
    spec(tmp_path, a=[forked(origin), "beta"])
    run(tmp_path, "--build", "forked")
    assert of("forked", tmp_path) == before
    assert builds(tmp_path) == 2


def test_what_an_index_has_of_the_same_name_is_not_taken(tmp_path: Path, origin: Path, index: Path) -> None:
    wheel(index, "forked", "1.0")
    wheel(index, "forked", "2.0")
    wheel(index, "wants", "1.0", requires=["forked"])
    spec(tmp_path, a=[forked(origin), "wants"])
    run(tmp_path, "--build", "forked")
    assert of("forked", tmp_path)["source"]["kind"] == "git"


def test_pip_takes_of_a_commit_the_locked_wheel_alone(tmp_path: Path, origin: Path, index: Path) -> None:
    wheel(index, "forked", "1.0")
    spec(tmp_path, a=[forked(origin)])
    run(tmp_path, "--build", "forked")
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in pip_install(tmp_path).stderr
    (index / "forked-1.0-py3-none-any.whl").unlink()
    built = cache_directory() / of("forked", tmp_path)["sha256"]
    done = pip_install(tmp_path, "--find-links", str(built))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "forked.py").is_file()


def test_one_distribution_from_two_places_is_refused(tmp_path: Path, origin: Path) -> None:
    first = git(origin, "rev-parse", "HEAD")
    commit(origin, {"python/content/new.py": "x = 1\n"})
    spec(tmp_path, a=[forked(origin), forked(origin, f"@{first}")])
    with pytest.raises(LockError, match="'forked' is required from two places"):
        run(tmp_path, "--build", "forked")


@pytest.mark.parametrize("url", ["git+https://user:hunter2@example.com/x", "https://hunter2@example.com/x-1.0.tar.gz"])
def test_credentials_in_a_requirement_are_refused_and_not_shown(tmp_path: Path, url: str) -> None:
    spec(tmp_path, a=[f"forked @ {url}"])
    with pytest.raises(LockError, match="'forked' is required from the URL") as caught:
        run(tmp_path, "--build", "forked")
    assert "hunter2" not in str(caught.value)
