"""Wheels of the workspace: checked-in files are locked by hash, what targets make by label."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mfbazel.lock import cli
from mfbazel.lock.errors import LockError
from mfbazel.wheel.fetch import sha256_of
from tests.lock.wheelhouse import use_only, wheel

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
LABEL = "//libs/features:wheel"
FLOW = """
from metaflow import FlowSpec, pypi, step

class Demo(FlowSpec):
    @pypi(packages={"wants": "1.0"})
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass
"""


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index that has everything, also other wheels of what is first-party."""
    directory = tmp_path / "index"
    wheel(directory, "metaflow", "2.19.39", ("boto3",))
    for name in ("packaging", "boto3", "alpha", "beta", "features"):
        wheel(directory, name, "1.0")
    wheel(directory, "features", "9.0")
    wheel(directory, "wants", "1.0", ("features",))
    (tmp_path / "demo.py").write_text(FLOW)
    return use_only(directory, tmp_path / "home", monkeypatch)


def first_party(tmp_path: Path, *requires: str, version: str = "1.5", **other: Any) -> Path:
    for path in (tmp_path / "made").glob("*.whl"):
        path.unlink()
    wheel(tmp_path / "made", "features", version, requires, **other)
    return tmp_path / "made" / f"features-{version}-py3-none-any.whl"


def run(tmp_path: Path, command: str, path: Path | None, *options: str, option: str = "--wheel-target") -> int:
    arguments = ["--flow", str(tmp_path / "demo.py"), "--lock-dir", str(tmp_path / "demo.lock"), "--label", "//:demo"]
    given = [option, f"{LABEL}={path}"] if path else []
    return cli.main([command, *arguments, "--python", HERE, "--runtime", "boto3", *given, *options])


def document(tmp_path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((tmp_path / "demo.lock" / "flow.json").read_text())
    return read


def text(tmp_path: Path) -> str:
    return (tmp_path / "demo.lock" / "start.txt").read_text()


def test_what_a_target_makes_is_locked_by_its_label_and_no_hash(tmp_path: Path) -> None:
    path = first_party(tmp_path, "alpha")
    run(tmp_path, "flow", path)
    entry = document(tmp_path)["wheels"][LABEL]
    assert entry == {
        "name": "features",
        "version": "1.5",
        "file": path.name,
        "size": 0,
        "modules": ["features"],
        "license": "unknown",
        "source": {"kind": "label", "label": LABEL, "dependencies": ["alpha"]},
    }
    assert sha256_of(path) not in json.dumps(document(tmp_path))
    names = {
        document(tmp_path)["wheels"][key]["name"]
        for key in document(tmp_path)["environments"]["start"]["wheels"]["linux/amd64"]
    }
    assert {"wants", "features", "alpha", "boto3"} == names
    assert f"\n# features==1.5 is made by {LABEL}, and has no hash\n    # via wants\n" in text(tmp_path)
    assert "\nfeatures==" not in text(tmp_path)
    assert "alpha==1.0" in text(tmp_path)


def test_it_is_a_layer_of_its_own_on_top(tmp_path: Path) -> None:
    run(tmp_path, "flow", first_party(tmp_path, "alpha"))
    layers = document(tmp_path)["layers"]["linux/amd64"]
    assert layers[-1] == {"name": "features-1.5", "wheels": [LABEL], "environments": ["start"]}
    assert all(LABEL not in layer["wheels"] for layer in layers[:-1])


def test_an_edit_changes_nothing_in_the_lock(tmp_path: Path) -> None:
    run(tmp_path, "flow", first_party(tmp_path, "alpha"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "demo.lock").iterdir()}
    path = first_party(tmp_path, "alpha")
    path.write_bytes(path.read_bytes() + b"\0")  # other bytes, the same wheel
    assert run(tmp_path, "test", path) == 0
    assert run(tmp_path, "flow", path, "--check") == 0
    assert run(tmp_path, "flow", path, "--upgrade") == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "demo.lock").iterdir()} == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"requires": ["alpha", "beta"]}, f"{LABEL}: requirements is alpha, beta, locked is alpha"),
        ({"version": "1.6"}, f"{LABEL}: version is 1.6, locked is 1.5"),
        ({"modules": ["features", "more"]}, f"{LABEL}: modules is features, more, locked is features"),
    ],
    ids=["requirements", "version", "modules"],
)
def test_a_change_that_matters_makes_the_lock_stale(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    run(tmp_path, "flow", first_party(tmp_path, "alpha"))
    requires = change.pop("requires", ["alpha"])
    path = first_party(tmp_path, *requires, **change)
    with pytest.raises(LockError) as caught:
        run(tmp_path, "test", path)
    assert said in str(caught.value)
    assert "bazel run //:demo.lock" in str(caught.value)
    run(tmp_path, "flow", path)
    assert run(tmp_path, "test", path) == 0
    assert ("beta==1.0" in text(tmp_path)) == ("beta" in requires)


def test_no_wheel_of_an_index_is_taken_instead(tmp_path: Path) -> None:
    run(tmp_path, "flow", None)
    assert "features==9.0" in text(tmp_path)
    path = first_party(tmp_path, "alpha")
    with pytest.raises(LockError, match=f"features is {LABEL} .attribute `wheels`., locked is a wheel of an index"):
        run(tmp_path, "test", path)
    run(tmp_path, "flow", path)
    assert "\nfeatures==" not in text(tmp_path)
    with pytest.raises(LockError, match="features is locked as //libs/features:wheel, which is not in the attribute"):
        run(tmp_path, "test", None)
    run(tmp_path, "flow", None)
    assert LABEL not in document(tmp_path)["wheels"]


def test_a_version_that_a_step_does_not_take_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "demo.py").write_text(FLOW.replace('"wants": "1.0"', '"features": ">=2"'))
    with pytest.raises(LockError, match="features"):
        run(tmp_path, "flow", first_party(tmp_path))


def test_a_wheel_that_nobody_requires_is_in_no_environment(tmp_path: Path) -> None:
    (tmp_path / "demo.py").write_text(FLOW.replace('"wants": "1.0"', '"beta": "1.0"'))
    run(tmp_path, "flow", first_party(tmp_path))
    assert LABEL not in document(tmp_path)["wheels"]


def test_a_checked_in_wheel_is_locked_by_its_hash(tmp_path: Path) -> None:
    path = first_party(tmp_path, "alpha")
    run(tmp_path, "flow", path, option="--wheel")
    sha256 = sha256_of(path)
    assert document(tmp_path)["wheels"][sha256]["source"] == {"kind": "file", "label": LABEL}
    assert f"# features: {LABEL} of this workspace\nfeatures==1.5 \\\n    --hash=sha256:{sha256}\n" in text(tmp_path)
    assert run(tmp_path, "test", path, option="--wheel") == 0
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(LockError, match=f"{LABEL} has the hash {sha256_of(path)}, locked is {sha256}"):
        run(tmp_path, "test", path, option="--wheel")
    assert run(tmp_path, "flow", path, "--check", option="--wheel") == 1


@pytest.mark.parametrize("resolver", ["uv", "pip-tools"])
def test_both_resolvers_take_it(tmp_path: Path, resolver: str) -> None:
    run(tmp_path, "flow", first_party(tmp_path, "alpha"), "--resolver", resolver)
    assert document(tmp_path)["wheels"][LABEL]["version"] == "1.5"
    assert "alpha==1.0" in text(tmp_path)


def test_what_is_no_wheel_is_said_with_the_attribute(tmp_path: Path) -> None:
    for name, content in [("features.whl", b""), ("features-1.0-py3-none-any.whl", b"no archive")]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(LockError, match=f"attribute `wheels`: {LABEL}: {name} is not"):
            run(tmp_path, "flow", tmp_path / name)


def test_two_wheels_of_one_distribution_are_refused(tmp_path: Path) -> None:
    path = first_party(tmp_path)
    with pytest.raises(LockError, match="are both wheels of features") as caught:
        run(tmp_path, "flow", path, "--wheel", f"//:other={path}")
    assert LABEL in str(caught.value)
    assert "//:other" in str(caught.value)


def test_two_platforms_have_it_both(tmp_path: Path) -> None:
    run(tmp_path, "flow", first_party(tmp_path, "alpha"), "--platform", "linux/amd64", "--platform", "linux/arm64")
    wheels = document(tmp_path)["environments"]["start"]["wheels"]
    assert all(LABEL in wheels[platform] for platform in ("linux/amd64", "linux/arm64"))
