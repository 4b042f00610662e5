"""Locking a flow against a local wheelhouse: no network."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mfbazel.errors import MfbazelError
from mfbazel.lock import cli
from mfbazel.lock.errors import LockError
from tests.lock.wheelhouse import use_only, wheel

LABEL = "//flows:demo"
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
FLOW = """
from metaflow import FlowSpec, pypi, step

class Demo(FlowSpec):
    @step
    def start(self):
        self.next(self.train)

    @pypi(packages={TRAIN})
    @step
    def train(self):
        self.next(self.end)

    @step
    def end(self):
        pass
"""


def simple_index(directory: Path) -> str:
    """Make a simple index of the wheels in ``directory``; return its URL."""
    for path in sorted(directory.glob("*.whl")):
        page = directory / "simple" / path.name.partition("-")[0] / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        with page.open("a", encoding="utf-8") as stream:
            stream.write(f'<a href="../../{path.name}">{path.name}</a>\n')
    return f"file://{directory}/simple"


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheelhouse, and a configuration that knows nothing else."""
    directory = tmp_path / "wheelhouse"
    wheel(directory, "metaflow", "2.19.39", ("boto3", "requests"))
    wheel(directory, "packaging", "26.0")
    wheel(directory, "boto3", "1.0")
    wheel(directory, "requests", "2.0")
    wheel(directory, "alpha", "1.0", ("beta>=1",))
    wheel(directory, "beta", "1.0")
    wheel(directory, "beta", "2.0")
    wheel(directory, "gamma", "1.0", ("beta<2",))
    return use_only(directory, tmp_path / "home", monkeypatch)


def flow(tmp_path: Path, packages: str) -> Path:
    path = tmp_path / "demo.py"
    path.write_text(FLOW.replace("{TRAIN}", packages), encoding="utf-8")
    return path


def run(tmp_path: Path, command: str, *options: str) -> int:
    arguments = ["--flow", str(tmp_path / "demo.py"), "--lock-dir", str(tmp_path / "demo.lock"), "--label", LABEL]
    return cli.main([command, *arguments, "--python", HERE, "--runtime", "boto3", "--runtime", "requests", *options])


def lock(tmp_path: Path, packages: str, *options: str) -> dict[str, object]:
    flow(tmp_path, packages)
    assert run(tmp_path, "flow", *options) == 0
    return read(tmp_path)


def read(tmp_path: Path) -> dict[str, object]:
    table: dict[str, object] = json.loads((tmp_path / "demo.lock" / "flow.json").read_text(encoding="utf-8"))
    return table


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def pins(tmp_path: Path, environment: str = "train") -> dict[str, str]:
    lines = (tmp_path / "demo.lock" / f"{environment}.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.removesuffix(" \\").split("==", 1) for line in lines if "==" in line)


def test_every_step_and_the_launcher_get_exact_wheels(tmp_path: Path, wheels: Path) -> None:
    lock(tmp_path, '{"alpha": "1.0"}')
    assert sorted(path.name for path in (tmp_path / "demo.lock").iterdir()) == [
        "_launcher.txt", "end.txt", "flow.json", "start.txt", "train.txt"]  # fmt: skip
    assert pins(tmp_path) == {"alpha": "1.0", "beta": "2.0", "boto3": "1.0", "requests": "2.0"}
    assert pins(tmp_path, "_launcher") == {
        "boto3": "1.0",
        "metaflow": "2.19.39",
        "packaging": "26.0",
        "requests": "2.0",
    }
    table = json.loads((tmp_path / "demo.lock" / "flow.json").read_text(encoding="utf-8"))
    for sha256, entry in table["wheels"].items():
        assert entry["size"] == (wheels / entry["file"]).stat().st_size
        assert len(sha256) == 64
    train = table["environments"]["train"]
    assert train["requirements"] == ["alpha==1.0"]
    assert [table["wheels"][sha]["name"] for sha in train["wheels"]["linux/amd64"]] == [
        "alpha",
        "beta",
        "boto3",
        "requests",
    ]
    assert "_launcher" not in {name for layer in table["layers"]["linux/amd64"] for name in layer["environments"]}


def test_the_requirements_file_is_in_pip_tools_format_and_says_how_to_update_it(tmp_path: Path) -> None:
    lock(tmp_path, '{"alpha": "1.0"}')
    text = (tmp_path / "demo.lock" / "train.txt").read_text(encoding="utf-8")
    assert "#    bazel run //flows:demo.lock\n" in text
    assert "    # via demo.py (train)\n" in text
    assert "    # via alpha\n" in text
    assert "    # via metaflow (runtime)\n" in text


def test_the_same_input_gives_the_same_bytes_and_nothing_of_this_machine(tmp_path: Path) -> None:
    lock(tmp_path, '{"alpha": "1.0"}')
    first = content(tmp_path / "demo.lock")
    for path in (tmp_path / "demo.lock").iterdir():
        path.unlink()
    lock(tmp_path, '{"alpha": "1.0"}')
    assert content(tmp_path / "demo.lock") == first
    for body in first.values():
        assert str(tmp_path).encode() not in body
        assert b"://" not in body


@pytest.mark.skipif(sys.platform != "linux", reason="pip-tools resolves for the machine it runs on")
def test_both_resolvers_pin_the_same(tmp_path: Path) -> None:
    machine = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}[os.uname().machine]
    lock(tmp_path, '{"alpha": "1.0", "gamma": ""}', "--platform", machine)
    with_uv = {path.name: path.read_bytes() for path in (tmp_path / "demo.lock").glob("*.txt")}
    lock(tmp_path, '{"alpha": "1.0", "gamma": ""}', "--platform", machine, "--resolver", "pip-tools", "--upgrade")
    assert {path.name: path.read_bytes() for path in (tmp_path / "demo.lock").glob("*.txt")} == with_uv
    assert pins(tmp_path)["beta"] == "1.0"


def test_pip_tools_refuses_another_python_and_names_the_attribute(tmp_path: Path) -> None:
    flow(tmp_path, "{}")
    with pytest.raises(
        LockError, match=r"attribute `resolver`: pip-tools resolves for Python .* not 3\.8\. Use `resolver = \"uv\"`"
    ):
        run(tmp_path, "flow", "--resolver", "pip-tools", "--python", "3.8")


def test_locked_versions_are_kept_until_an_upgrade_is_asked_for(tmp_path: Path, wheels: Path) -> None:
    lock(tmp_path, '{"alpha": ""}')
    wheel(wheels, "alpha", "1.5", ("beta>=3",))
    wheel(wheels, "beta", "3.0")
    wheel(wheels, "requests", "2.5")
    lock(tmp_path, '{"alpha": ""}')
    assert pins(tmp_path) == {"alpha": "1.0", "beta": "2.0", "boto3": "1.0", "requests": "2.0"}
    lock(tmp_path, '{"alpha": ""}', "--upgrade-package", "alpha")
    assert pins(tmp_path) == {"alpha": "1.5", "beta": "3.0", "boto3": "1.0", "requests": "2.0"}
    lock(tmp_path, '{"alpha": ""}', "--upgrade")
    assert pins(tmp_path)["requests"] == "2.5"


def test_a_locked_version_yields_to_a_new_requirement(tmp_path: Path) -> None:
    lock(tmp_path, '{"alpha": ""}')
    assert pins(tmp_path)["beta"] == "2.0"
    lock(tmp_path, '{"alpha": "", "gamma": ""}')
    assert pins(tmp_path)["beta"] == "1.0"


def test_a_locked_version_is_kept_although_the_first_index_has_no_fitting_wheel_of_it(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(tmp_path / "first", "delta", "2.0", tag="cp27-cp27m-win32")
    wheel(tmp_path / "second", "delta", "1.0")
    wheel(tmp_path / "second", "delta", "2.0")
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", simple_index(wheels))
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{simple_index(tmp_path / 'first')} {simple_index(tmp_path / 'second')}")
    for _ in range(2):
        lock(tmp_path, '{"delta": ""}')
        assert pins(tmp_path)["delta"] == "2.0"


def test_the_launchers_pins_hold_for_runtime_requirements_but_not_over_a_steps_own(
    tmp_path: Path, wheels: Path
) -> None:
    wheel(wheels, "metaflow", "2.20", ("boto3<2", "requests"))
    wheel(wheels, "boto3", "2.0")
    lock(tmp_path, "{}")
    assert pins(tmp_path)["boto3"] == "1.0"
    lock(tmp_path, '{"boto3": "2.0"}')
    assert pins(tmp_path)["boto3"] == "2.0"
    assert pins(tmp_path, "end")["boto3"] == "1.0"


def test_two_platforms_have_their_own_wheels_and_markers(tmp_path: Path, wheels: Path) -> None:
    wheel(wheels, "native", "1.0", ('beta ; platform_machine == "x86_64"',), "py3-none-manylinux_2_17_x86_64")
    wheel(wheels, "native", "1.0", (), "py3-none-manylinux_2_17_aarch64")
    table = lock(tmp_path, '{"native": ""}', "--platform", "linux/arm64", "--platform", "linux/amd64")
    text = (tmp_path / "demo.lock" / "train.txt").read_text(encoding="utf-8")
    assert text.count("--hash=sha256:", text.index("native=="), text.index("requests==")) == 2
    assert 'beta==2.0 ; platform_machine == "x86_64" \\\n' in text
    assert sorted(table["layers"]) == ["linux/amd64", "linux/arm64"]  # type: ignore[call-overload]


def test_the_better_of_two_wheels_of_one_version_is_taken(tmp_path: Path, wheels: Path) -> None:
    for tag in (
        "py3-none-any",
        "py3-none-manylinux_2_17_x86_64",
        "py3-none-manylinux_2_28_x86_64",
        "py3-none-manylinux_2_38_x86_64",
    ):
        wheel(wheels, "native", "1.0", (), tag)
    table = lock(tmp_path, '{"native": ""}')
    files = {entry["file"] for entry in table["wheels"].values() if entry["name"] == "native"}  # type: ignore[attr-defined]
    assert files == {"native-1.0-py3-none-manylinux_2_28_x86_64.whl"}


def test_a_conflict_names_step_packages_places_and_the_chain_of_reasons(tmp_path: Path) -> None:
    flow(tmp_path, '{"beta": "2.0", "gamma": "1.0"}')
    with pytest.raises(LockError) as error:
        run(tmp_path, "flow")
    text = str(error.value)
    assert text.startswith("step 'train': the requirements cannot be met: beta, gamma\n")
    assert "  demo.py:9 (@pypi): beta==2.0\n" in text
    assert "  | error: No solution found when resolving dependencies" in text
    assert "all versions of gamma depend on beta<2 and you require beta==2.0" in text
    assert text.endswith("then run `bazel run //flows:demo.lock`.")
    assert not (tmp_path / "demo.lock").exists()


def test_a_package_that_does_not_exist_is_named_with_its_place(tmp_path: Path) -> None:
    flow(tmp_path, '{"nosuch": "1"}')
    with pytest.raises(LockError, match=r"step 'train': the requirements cannot be met: nosuch\n  demo.py:9 \(@pypi\)"):
        run(tmp_path, "flow")


def test_no_wheel_for_the_platform_names_step_package_and_platform(tmp_path: Path, wheels: Path) -> None:
    wheel(wheels, "native", "1.0", (), "cp27-cp27m-win32")
    flow(tmp_path, '{"native": "1.0"}')
    with pytest.raises(LockError) as error:
        run(tmp_path, "flow")
    assert str(error.value).startswith(
        f"step 'train': no wheel for linux/amd64 and Python {HERE}: native\n  demo.py:9 (@pypi)"
    )
    assert "build one and add it to your index" in str(error.value)


def test_an_unreachable_index_is_told_apart_and_no_password_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://user:secret@127.0.0.1:{port}/simple")
        flow(tmp_path, '{"alpha": "1.0"}')
        with pytest.raises(LockError) as error:
            run(tmp_path, "flow")
    assert "a package index could not be reached, so nothing was locked" in str(error.value)
    assert "python3 -m pip config list" in str(error.value)
    assert "secret" not in str(error.value)


def test_check_writes_nothing_and_fails_only_when_something_would_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow(tmp_path, '{"beta": "1.0"}')
    assert run(tmp_path, "flow", "--check") == 1
    assert not (tmp_path / "demo.lock").exists()
    lock(tmp_path, '{"beta": "1.0"}')
    assert run(tmp_path, "flow", "--check") == 0
    flow(tmp_path, '{"beta": "2.0"}')
    before = content(tmp_path / "demo.lock")
    capsys.readouterr()
    assert run(tmp_path, "flow", "--check") == 1
    assert "would change: train: beta 1.0 → 2.0" in capsys.readouterr().out
    assert content(tmp_path / "demo.lock") == before


def test_bazel_runs_relative_paths_mean_the_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flow(tmp_path, "{}")
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path))
    monkeypatch.chdir("/")
    options = ["--python", HERE, "--runtime", "boto3"]
    assert cli.main(["flow", "--flow", "demo.py", "--lock-dir", "x.lock", "--label", LABEL, *options]) == 0
    assert (tmp_path / "x.lock" / "flow.json").is_file()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--platform", "windows/amd64", "attribute `platforms`: 'windows/amd64' is not supported; choose from "),
        ("--glibc", "2.1", "attribute `glibc`: '2.1' is not supported; choose from 2.17, 2.28"),
        ("--python", "4", "attribute `python`: Python version '4' is not of the form"),
        ("--runtime", "a b", "attribute `runtime`: 'a b' is not a requirement"),
        ("--metaflow", "metaflow @ https://example.com/m.whl", "attribute `metaflow`: 'metaflow' is required from"),
    ],
)  # fmt: skip
def test_a_bad_attribute_is_named_with_its_value(tmp_path: Path, option: str, value: str, message: str) -> None:
    flow(tmp_path, "{}")
    with pytest.raises(MfbazelError) as error:
        run(tmp_path, "flow", option, value)
    assert message in str(error.value)


def test_an_up_to_date_lock_passes_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock(tmp_path, '{"alpha": "1.0"}')
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "/nonexistent")
    assert run(tmp_path, "test") == 0


def test_moving_a_step_to_another_line_is_no_staleness(tmp_path: Path) -> None:
    lock(tmp_path, '{"alpha": "1.0"}')
    path = tmp_path / "demo.py"
    path.write_text("# a comment\n\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert run(tmp_path, "test") == 0


def test_a_missing_lock_names_the_command(tmp_path: Path) -> None:
    flow(tmp_path, "{}")
    with pytest.raises(LockError, match=r"demo.lock: there is no lock. Make it with `bazel run //flows:demo.lock`."):
        run(tmp_path, "test")


@pytest.mark.parametrize(
    ("packages", "message"),
    [
        ('{"alpha": "2.0"}', "step 'train': alpha==2.0 is required at demo.py:9 (@pypi), locked is alpha==1.0"),
        ('{"alpha": "1.0", "beta": ""}', "step 'train': beta is required at demo.py:9 (@pypi), but not locked"),
        ("{}", "step 'train': alpha==1.0 is locked, but no longer required"),
        ('{"alpha": "1.0"}, python="3.9"', f"step 'train': Python is 3.9, locked is {HERE}"),
        ('{"alpha": "1.0"}, disabled=True', "step 'train': `disabled` is True, locked is False"),
    ],
)
def test_a_stale_lock_names_step_package_and_command(tmp_path: Path, packages: str, message: str) -> None:
    lock(tmp_path, '{"alpha": "1.0"}')
    flow(tmp_path, packages)
    with pytest.raises(LockError) as error:
        run(tmp_path, "test")
    assert message in str(error.value)
    assert str(error.value).endswith("Run `bazel run //flows:demo.lock`.")


def test_a_step_that_came_or_went_is_named(tmp_path: Path) -> None:
    lock(tmp_path, "{}")
    path = tmp_path / "demo.py"
    path.write_text(path.read_text(encoding="utf-8").replace("train", "fit"), encoding="utf-8")
    with pytest.raises(LockError) as error:
        run(tmp_path, "test")
    assert "step 'fit' is not locked" in str(error.value)
    assert "step 'train' is locked, but not in the flow" in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--platform", "linux/arm64"), "attribute `platforms` is linux/arm64, locked is linux/amd64"),
        (("--glibc", "2.17"), "attribute `glibc` is 2.17, locked is 2.28"),
        (("--metaflow", "metaflow==2.20"), "the launcher: metaflow==2.20 is required at attribute `metaflow`"),
        (("--runtime", "google-auth"), "step 'train': google-auth is required at attribute `runtime`, but not locked"),
    ],
)
def test_a_changed_attribute_makes_the_lock_stale(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    lock(tmp_path, "{}")
    with pytest.raises(LockError) as error:
        run(tmp_path, "test", *options)
    assert message in str(error.value)


@pytest.mark.parametrize("damage", ["version", "hash", "gone"])
def test_an_edited_requirements_file_makes_the_lock_stale(tmp_path: Path, damage: str) -> None:
    lock(tmp_path, '{"beta": "1.0"}')
    path = tmp_path / "demo.lock" / "train.txt"
    text = path.read_text(encoding="utf-8")
    if damage == "gone":
        path.unlink()
    elif damage == "version":
        path.write_text(text.replace("beta==1.0", "beta==2.0"), encoding="utf-8")
    else:
        first = text.index("sha256:") + 7
        path.write_text(text[:first] + "0" * 64 + text[first + 64 :], encoding="utf-8")
    expected = (
        "'train': train.txt is missing" if damage == "gone" else "'train': train.txt and flow.json differ about beta"
    )
    with pytest.raises(LockError) as error:
        run(tmp_path, "test")
    assert expected in str(error.value)


def _version(table: dict[str, Any], sha: str) -> None:
    table["wheels"][sha]["version"] = "2.0"


def _hash(table: dict[str, Any], sha: str) -> None:
    changed = json.loads(json.dumps(table).replace(sha, "f" * 64))
    table.update(changed)


def _name(table: dict[str, Any], sha: str) -> None:
    table["wheels"][sha]["name"] = "evil"


def _left_out(table: dict[str, Any], sha: str) -> None:
    table["environments"]["train"]["wheels"]["linux/amd64"].remove(sha)


@pytest.mark.parametrize("tamper", [_version, _hash, _name, _left_out])
def test_a_lock_in_which_a_wheel_was_changed_by_hand_is_stale(
    tmp_path: Path, tamper: Callable[[dict[str, Any], str], None]
) -> None:
    lock(tmp_path, '{"beta": "1.0"}', "--platform", "linux/amd64")
    table: dict[str, Any] = read(tmp_path)
    tamper(table, next(sha for sha, wheel in table["wheels"].items() if wheel["name"] == "beta"))
    (tmp_path / "demo.lock" / "flow.json").write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(LockError, match=r"'train': train\.txt and flow\.json differ about (beta|evil)"):
        run(tmp_path, "test", "--platform", "linux/amd64")


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 99}', '{"schema": 1}'])
def test_an_unreadable_lock_says_what_to_do(tmp_path: Path, text: str) -> None:
    flow(tmp_path, "{}")
    (tmp_path / "demo.lock").mkdir()
    (tmp_path / "demo.lock" / "flow.json").write_text(text, encoding="utf-8")
    with pytest.raises(LockError, match=r"flow\.json: .*un `bazel run //flows:demo.lock`"):
        run(tmp_path, "test")


def test_environments_without_a_flow(tmp_path: Path) -> None:
    spec = tmp_path / "environments.json"
    entries = {"tools": {"python": HERE, "requirements": ["alpha"]}, "test": {"python": HERE, "include": ["tools"]}}
    spec.write_text(json.dumps({"environments": entries, "platforms": ["linux/arm64"]}), encoding="utf-8")
    arguments = ["--spec", str(spec), "--lock-dir", str(tmp_path / "demo.lock"), "--label", "//tools:python"]
    assert cli.main(["environments", *arguments]) == 0
    table = read(tmp_path)
    assert table["flow"] is None
    assert pins(tmp_path, "test") == pins(tmp_path, "tools") == {"alpha": "1.0", "beta": "2.0"}
    assert list(table["layers"]) == ["linux/arm64"]  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("{", "is not JSON"),
        ("{}", "`environments` is missing or empty"),
        ('{"environments": {"a": {}}}', "environment 'a': `python` is missing"),
        ('{"environments": {"a/b": {"python": "3.14"}}}', "environment 'a/b': a name consists of"),
        (
            '{"environments": {"a": {"python": "3.14", "requirements": "x"}}}',
            "environment 'a': `requirements` is not a list",
        ),
        ('{"environments": {"a": {"python": "3.14", "include": ["b"]}}}', "`include` names 'b'"),
        ('{"environments": {"a": {"python": "3.14", "include": ["a"]}}}', "`include` goes in a circle: a → a"),
        ('{"environments": {"a": {"python": "3.14", "requires": []}}}', "environment 'a': unknown key `requires`"),
    ],
)
def test_a_bad_spec_is_refused_by_name(tmp_path: Path, table: str, message: str) -> None:
    spec = tmp_path / "environments.json"
    spec.write_text(table, encoding="utf-8")
    with pytest.raises(LockError) as error:
        cli.main(["environments", "--spec", str(spec), "--lock-dir", str(tmp_path / "x"), "--label", "//tools:python"])
    assert message in str(error.value)


def test_extras_are_kept_in_the_lock_and_in_what_is_shown(
    tmp_path: Path, wheels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel(wheels, "extra", "1.0", ('beta ; extra == "more"',))
    table = lock(tmp_path, '{"extra[more]": "1.0"}')
    assert table["environments"]["train"]["requirements"] == ["extra[more]==1.0"]  # type: ignore[index]
    assert pins(tmp_path)["beta"] == "2.0"
    assert "extra[more]==1.0" in capsys.readouterr().out
