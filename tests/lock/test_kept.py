"""What has not changed is not resolved again: no resolver runs, and reviewed steps stay as they are."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from mfbazel.lock import cli
from mfbazel.lock.errors import LockError
from mfbazel.lock.resolve import Resolutions
from tests.lock.wheelhouse import use_only, wheel

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
FLOW = """
from metaflow import FlowSpec, pypi, step

class Demo(FlowSpec):
    @pypi(packages={START})
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


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheelhouse of first versions, and nothing else that is known."""
    directory = tmp_path / "wheelhouse"
    wheel(directory, "metaflow", "2.19.39", ("boto3",))
    wheel(directory, "packaging", "26.0")
    for name in ("boto3", "alpha", "beta", "gamma"):
        wheel(directory, name, "1.0")
    wheel(directory, "delta", "1.0", ("gamma",))
    return use_only(directory, tmp_path / "home", monkeypatch)


def newer(wheels: Path) -> None:
    for name in ("boto3", "alpha", "beta", "gamma"):
        wheel(wheels, name, "2.0")


def flow(tmp_path: Path, start: str = '{"alpha": ""}', train: str = '{"beta": "", "delta": ""}') -> None:
    text = FLOW.replace("{START}", start).replace("{TRAIN}", train)
    (tmp_path / "demo.py").write_text(text, encoding="utf-8")


def run(tmp_path: Path, *options: str) -> int:
    arguments = ["--flow", str(tmp_path / "demo.py"), "--lock-dir", str(tmp_path / "demo.lock"), "--label", "//:demo"]
    return cli.main(["flow", *arguments, "--python", HERE, "--runtime", "boto3", *options])


def pins(tmp_path: Path) -> dict[str, dict[str, str]]:
    found = {}
    for path in sorted((tmp_path / "demo.lock").glob("*.txt")):
        lines = path.read_text(encoding="utf-8").splitlines()
        found[path.stem] = dict(line.removesuffix(" \\").split("==", 1) for line in lines if "==" in line)
    return found


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The requirements of each resolution that is made."""
    asked: list[tuple[str, ...]] = []
    original = Resolutions._resolve

    def spy(self: Resolutions, question: object, report: object) -> object:
        asked.append(question.wanted)  # type: ignore[attr-defined]
        return original(self, question, report)  # type: ignore[arg-type]

    monkeypatch.setattr(Resolutions, "_resolve", spy)
    return asked


def test_nothing_is_resolved_when_nothing_changed(
    tmp_path: Path, wheels: Path, resolved: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    flow(tmp_path)
    run(tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "demo.lock").iterdir()}
    resolved.clear()
    newer(wheels)
    shutil.rmtree(wheels)  # not even needed
    assert run(tmp_path, "--check") == 0
    assert run(tmp_path) == 0
    assert resolved == []
    assert "nothing to change" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in (tmp_path / "demo.lock").iterdir()} == before


def test_a_changed_step_is_resolved_and_the_others_stay(
    tmp_path: Path, wheels: Path, resolved: list[tuple[str, ...]]
) -> None:
    flow(tmp_path)
    run(tmp_path)
    resolved.clear()
    newer(wheels)
    flow(tmp_path, start='{"alpha": ">1"}')
    run(tmp_path)
    assert resolved == [("alpha>1",)]
    assert pins(tmp_path)["start"] == {"alpha": "2.0", "boto3": "1.0"}
    assert pins(tmp_path)["train"] == {"beta": "1.0", "boto3": "1.0", "delta": "1.0", "gamma": "1.0"}


@pytest.mark.parametrize(
    "options",
    [("--platform", "linux/amd64", "--platform", "linux/arm64"), ("--glibc", "2.31"), ("--resolver", "pip-tools")],
)
def test_other_settings_resolve_everything_again(
    tmp_path: Path, resolved: list[tuple[str, ...]], options: tuple[str, ...]
) -> None:
    flow(tmp_path)
    run(tmp_path)
    resolved.clear()
    run(tmp_path, *options)
    assert len(resolved) == 4


def test_a_step_that_comes_or_is_renamed_gets_the_versions_that_others_have(tmp_path: Path, wheels: Path) -> None:
    flow(tmp_path)
    run(tmp_path)
    newer(wheels)
    path = tmp_path / "demo.py"
    path.write_text(path.read_text(encoding="utf-8").replace("train", "fit"), encoding="utf-8")
    run(tmp_path)
    assert pins(tmp_path)["fit"] == {"beta": "1.0", "boto3": "1.0", "delta": "1.0", "gamma": "1.0"}
    flow(tmp_path, start='{"alpha": "", "gamma": ""}')
    run(tmp_path)
    assert pins(tmp_path)["start"] == {"alpha": "1.0", "boto3": "1.0", "gamma": "1.0"}


def test_a_damaged_requirements_file_is_resolved_again(tmp_path: Path, resolved: list[tuple[str, ...]]) -> None:
    flow(tmp_path)
    run(tmp_path)
    resolved.clear()
    path = tmp_path / "demo.lock" / "train.txt"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("beta==1.0", "beta==0.9"), encoding="utf-8")
    assert run(tmp_path, "--check") == 1
    run(tmp_path)
    assert resolved == [("beta", "delta")] * 2
    assert path.read_text(encoding="utf-8") == text


def test_a_new_name_of_the_flows_file_gets_into_the_annotations(
    tmp_path: Path,
) -> None:
    flow(tmp_path)
    run(tmp_path)
    renamed = tmp_path / "renamed.py"
    (tmp_path / "demo.py").rename(renamed)
    arguments = ["--flow", str(renamed), "--lock-dir", str(tmp_path / "demo.lock"), "--label", "//:demo"]
    cli.main(["flow", *arguments, "--python", HERE, "--runtime", "boto3"])
    assert "# via renamed.py (train)" in (tmp_path / "demo.lock" / "train.txt").read_text(encoding="utf-8")


def test_one_step_is_upgraded_and_the_others_stay(tmp_path: Path, wheels: Path) -> None:
    flow(tmp_path)
    run(tmp_path)
    newer(wheels)
    run(tmp_path, "--upgrade", "--step", "train")
    found = pins(tmp_path)
    # What Metaflow needs stands at the launcher's version everywhere.
    assert found["train"] == {"beta": "2.0", "boto3": "1.0", "delta": "1.0", "gamma": "2.0"}
    assert found["start"] == {"alpha": "1.0", "boto3": "1.0"}


def test_an_upgraded_package_moves_in_every_step_that_has_it(
    tmp_path: Path, wheels: Path, resolved: list[tuple[str, ...]]
) -> None:
    flow(tmp_path)
    run(tmp_path)
    resolved.clear()
    newer(wheels)
    run(tmp_path, "--upgrade-package", "Gamma")
    assert resolved == [("beta", "delta")]
    assert pins(tmp_path)["train"] == {"beta": "1.0", "boto3": "1.0", "delta": "1.0", "gamma": "2.0"}
    run(tmp_path, "--upgrade-package", "boto3")
    assert {versions["boto3"] for versions in pins(tmp_path).values()} == {"2.0"}


def test_an_upgrade_can_be_limited_to_some_versions(tmp_path: Path, wheels: Path) -> None:
    flow(tmp_path)
    run(tmp_path)
    newer(wheels)
    wheel(wheels, "gamma", "3.0")
    run(tmp_path, "--upgrade-package", "gamma<3")
    assert pins(tmp_path)["train"]["gamma"] == "2.0"
    with pytest.raises(LockError, match=r"--upgrade-package: gamma>9"):
        run(tmp_path, "--upgrade-package", "gamma>9")
    assert pins(tmp_path)["train"]["gamma"] == "2.0"


def test_an_upgrade_that_moves_nothing_says_what_holds_the_package(
    tmp_path: Path, wheels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow(tmp_path, start='{"alpha": "==1.0"}')
    run(tmp_path)
    newer(wheels)
    run(tmp_path, "--upgrade-package", "alpha")
    assert re.search(
        r"warning: --upgrade-package alpha: it stays at 1\.0: demo\.py:\d+ \(@pypi\) says alpha==1\.0",
        capsys.readouterr().err,
    )


def test_upgrading_what_is_not_locked_is_refused_with_what_may_be_meant(tmp_path: Path) -> None:
    flow(tmp_path)
    with pytest.raises(LockError, match=r"--upgrade-package gama: no step has this package; did you mean gamma\?"):
        run(tmp_path, "--upgrade-package", "gama")
    assert not (tmp_path / "demo.lock").exists()


def test_a_version_that_a_bot_wrote_into_a_requirements_file_is_taken_over(
    tmp_path: Path, wheels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow(tmp_path)
    run(tmp_path)
    newer(wheels)
    wheel(wheels, "gamma", "3.0")
    path = tmp_path / "demo.lock" / "train.txt"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("gamma==1.0", "gamma==2.0"), encoding="utf-8")
    run(tmp_path)
    assert pins(tmp_path)["train"] == {"beta": "1.0", "boto3": "1.0", "delta": "1.0", "gamma": "2.0"}
    assert "changed: train: gamma 1.0 → 2.0 (needed by delta)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("declared", "written", "reason"),
    [
        ('{"beta": "==1.0", "delta": ""}', "beta==2.0", r"demo\.py:\d+ \(@pypi\) requires beta==1\.0"),
        ('{"beta": "", "delta": ""}', "beta==99.0", "no index has a wheel of it that fits"),
    ],
)
def test_a_version_in_a_requirements_file_that_cannot_be_taken_is_said(
    tmp_path: Path, wheels: Path, capsys: pytest.CaptureFixture[str], declared: str, written: str, reason: str
) -> None:
    flow(tmp_path, train=declared)
    run(tmp_path)
    newer(wheels)
    path = tmp_path / "demo.lock" / "train.txt"
    path.write_text(path.read_text(encoding="utf-8").replace("beta==1.0", written), encoding="utf-8")
    run(tmp_path)
    assert re.search(
        f"warning: train: beta .*, as train.txt says, is not taken, but .*: {reason}", capsys.readouterr().err
    )


def test_a_lock_in_conflict_is_made_anew_from_what_its_requirements_files_pin(
    tmp_path: Path, wheels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow(tmp_path)
    run(tmp_path)
    newer(wheels)
    before = pins(tmp_path)
    for name in ("flow.json", "train.txt"):
        path = tmp_path / "demo.lock" / name
        path.write_text("<<<<<<< HEAD\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert run(tmp_path) == 0
    assert "warning: the old lock is ignored" in capsys.readouterr().err
    assert pins(tmp_path) == before
    assert "<<<" not in (tmp_path / "demo.lock" / "train.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", ["<<<<<<< HEAD", "--index-url https://evil.example/simple"])
def test_what_is_neither_a_pin_nor_a_hash_makes_the_lock_stale(tmp_path: Path, line: str) -> None:
    flow(tmp_path)
    run(tmp_path)
    path = tmp_path / "demo.lock" / "train.txt"
    path.write_text(f"{line}\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    arguments = ["--flow", str(tmp_path / "demo.py"), "--lock-dir", str(tmp_path / "demo.lock"), "--label", "//:demo"]
    with pytest.raises(LockError, match=rf"'train': train\.txt:1: '{line}' is neither a pin nor a hash"):
        cli.main(["test", *arguments, "--python", HERE, "--runtime", "boto3"])


def test_one_step_alone_is_refused_where_another_changed_as_well(tmp_path: Path) -> None:
    flow(tmp_path)
    run(tmp_path)
    before = pins(tmp_path)
    flow(tmp_path, start='{"gamma": ""}', train='{"delta": ""}')
    with pytest.raises(LockError, match=r"--step train: step 'start' changed as well.*`bazel run //:demo\.lock`"):
        run(tmp_path, "--step", "train")
    assert pins(tmp_path) == before
    assert run(tmp_path, "--step", "train", "--step", "start") == 0


def test_an_unknown_step_is_refused_with_those_there_are(tmp_path: Path) -> None:
    flow(tmp_path)
    with pytest.raises(LockError, match=r"--step trian: there is no such step; there are _launcher, start, train, end"):
        run(tmp_path, "--step", "trian")


def test_a_diff_says_in_words_what_would_change_and_writes_nothing(
    tmp_path: Path, wheels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow(tmp_path)
    run(tmp_path)
    newer(wheels)
    flow(tmp_path, start='{"alpha": ">1"}', train='{"delta": "==1.0"}')
    before = pins(tmp_path)
    capsys.readouterr()
    assert run(tmp_path, "--diff") == 0
    lines = capsys.readouterr().out.splitlines()
    assert pins(tmp_path) == before
    assert [line for line in lines if line.startswith("would change: ")] == [
        "would change: start: requires alpha>1 instead of alpha",
        "would change: start: alpha 1.0 → 2.0 (declared)",
        "would change: train: requires beta no longer",
        "would change: train: requires delta==1.0 instead of delta",
        "would change: train: - beta 1.0 (was declared)",
    ]
    assert run(tmp_path, "--diff", "--upgrade-package", "gamma") == 0
    out = capsys.readouterr().out
    assert "would change: train: gamma 1.0 → 2.0 (needed by delta)" in out
    assert run(tmp_path, "--diff", "--check") == 1


def test_a_change_of_several_environments_is_said_once(
    tmp_path: Path, wheels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow(tmp_path)
    run(tmp_path)
    newer(wheels)
    run(tmp_path, "--upgrade-package", "boto3")
    out = capsys.readouterr().out
    assert "changed: _launcher: boto3 1.0 → 2.0 (needed by Metaflow, metaflow)" in out
    assert "changed: end, start, train: boto3 1.0 → 2.0 (needed by Metaflow)" in out


def test_moved_lines_are_called_so_and_pass_a_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flow(tmp_path)
    run(tmp_path)
    path = tmp_path / "demo.py"
    path.write_text("\n\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert run(tmp_path, "--check") == 0
    assert "would change: flow.json: lines of the source moved" in capsys.readouterr().out
    run(tmp_path)
    assert "\nchanged: flow.json: lines of the source moved" in capsys.readouterr().out
