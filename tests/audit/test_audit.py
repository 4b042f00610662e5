"""What ``.audit`` says of a lock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mfbazel.audit import cli
from mfbazel.errors import MfbazelError


def wheel(name: str, version: str, license: str | None = "MIT") -> dict[str, Any]:
    entry = {"name": name, "version": version, "file": f"{name}.whl", "size": 1, "modules": [name]}
    return entry if license is None else {**entry, "license": license}


WHEELS = {
    "a": wheel("alpha", "1.0"),
    "b": wheel("beta", "2.0", "BSD-3-Clause"),
    "c": wheel("gamma", "1.0", "unknown"),
    "d": wheel("metaflow", "2.19", "Apache-2.0"),
    "e": wheel("alpha", "1.1"),
}
STEPS = {"start": ["a", "b"], "train": ["a", "b", "c"], "end": ["b", "e"], "_launcher": ["b", "d"]}


def advisory(id: str, name: str, fixed: str = "", **more: Any) -> dict[str, Any]:
    events = [{"introduced": "0"}, *([{"fixed": fixed}] if fixed else [])]
    affected = {"package": {"ecosystem": "PyPI", "name": name}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}
    return {"id": id, "modified": "2026-11-20T10:00:00Z", "affected": [affected], **more}


@pytest.fixture(autouse=True)
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock of three steps in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("BUILD_WORKSPACE_DIRECTORY", "BUILD_WORKING_DIRECTORY", "MFBAZEL_TARGET"):
        monkeypatch.delenv(name, raising=False)
    return write_lock(tmp_path)


def write_lock(tmp_path: Path, wheels: dict[str, dict[str, Any]] = WHEELS) -> Path:
    directory = tmp_path / "demo.lock"
    directory.mkdir(exist_ok=True)
    requirements = {"train": ["alpha==1.0"], "end": ["alpha>=1"]}
    environments = {
        name: {"file": f"{name}.txt", "wheels": {"linux/amd64": shas}, "requirements": requirements.get(name, [])}
        for name, shas in STEPS.items()
    }
    flow = {"steps": [{"name": name} for name in ("start", "train", "end")]}
    table = {"schema": 1, "flow": flow, "environments": environments, "wheels": wheels, "layers": {"linux/amd64": []}}
    (directory / "flow.json").write_text(json.dumps(table), encoding="utf-8")
    return directory


def run(*options: str) -> int:
    return cli.main(["--lock-dir", "demo.lock", "--label", "//flows:demo", *options])


def say(tmp_path: Path, *records: dict[str, Any]) -> str:
    (tmp_path / "advisories.json").write_text(json.dumps(records), encoding="utf-8")
    return "--advisories=advisories.json"


def rows(text: str) -> dict[str, str]:
    """Return the lines of the tables, with single spaces, by package and version."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return {" ".join(line.split()[:2]): line for line in reversed(lines) if len(line.split()) > 2}


def test_every_package_is_listed_with_its_licence_and_steps_and_the_launcher_apart(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run() == 0
    text = capsys.readouterr().out
    images, launcher = text.split("Of the launcher, and in no image:")
    assert rows(images)["alpha 1.0"] == "alpha 1.0 MIT start, train"
    assert rows(images)["alpha 1.1"] == "alpha 1.1 MIT end"
    assert rows(images)["beta 2.0"] == "beta 2.0 BSD-3-Clause every step"
    assert rows(images)["gamma 1.0"] == "gamma 1.0 unknown train"
    assert "metaflow" not in images
    assert rows(launcher)["metaflow 2.19"] == "metaflow 2.19 Apache-2.0"
    assert "licences: 2 MIT; 1 Apache-2.0; 1 BSD-3-Clause; 1 unknown" in text
    assert "vulnerabilities were not looked for" in text


def test_an_advisory_that_applies_is_told_with_the_command_that_fixes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score = {"type": "CVSS_V3", "score": "CVSS:3.1/AV:N"}
    found = advisory("GHSA-1", "Alpha", "1.1", summary="Bad\nthing", severity=[score])
    assert run(say(tmp_path, {**found, "database_specific": {"severity": "HIGH"}})) == 1
    text = capsys.readouterr().out
    assert rows(text)["alpha 1.0"] == "alpha 1.0 MIT start, train GHSA-1"
    assert rows(text)["alpha 1.1"] == "alpha 1.1 MIT end"
    assert "  GHSA-1: high, CVSS:3.1/AV:N\n    Bad thing\n" in text
    assert "    fixed in 1.1: bazel run //flows:demo.lock -- --upgrade-package alpha\n" in text
    assert "    step 'train' requires alpha==1.0: change that first\n" in text
    assert "step 'end' requires" not in text
    assert "advisories: 1 about PyPI, the newest of 2026-11-20\n1 vulnerability in 1 of 5 packages\n" in text


def test_what_does_not_apply_is_not_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(say(tmp_path, advisory("A-1", "alpha", "1.0"), advisory("A-2", "other"))) == 0
    text = capsys.readouterr().out
    assert "A-1" not in text
    assert "advisories: 2 about PyPI" in text
    assert "no vulnerability is known in 5 packages" in text


def test_aliases_are_one_vulnerability_by_way_of_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [
        advisory("PYSEC-1", "beta", "2.2", aliases=["CVE-1"]),
        advisory("A-9", "beta"),
        advisory("GHSA-1", "beta", "2.1", aliases=["EXTRA-1"], database_specific={"severity": "LOW"}),
        advisory("X-1", "beta", aliases=["EXTRA-1", "CVE-1"], database_specific={"severity": "CRITICAL"}),
        advisory("GHSA-2", "beta", "1.0", aliases=["CVE-1"], summary="does not apply"),
    ]
    assert run(say(tmp_path, *records), "--json") == 1
    table = json.loads(capsys.readouterr().out)
    (beta,) = (item for item in table["packages"] if item["name"] == "beta")
    assert beta["steps"] == ["start", "train", "end", "_launcher"]
    first, second = beta["findings"]
    assert (first["id"], first["aliases"]) == ("CVE-1", ["GHSA-1", "PYSEC-1", "EXTRA-1", "X-1"])
    assert (first["severity"], first["fixed"]) == ("CRITICAL", ["2.1", "2.2"])
    assert second["id"] == "A-9"
    assert table["label"] == "//flows:demo"
    assert table["database"] == {"advisories": 5, "newest": "2026-11-20T10:00:00Z"}


@pytest.mark.parametrize("id", ["CVE-1", "pysec-1"])
def test_an_ignored_vulnerability_is_shown_and_does_not_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], id: str
) -> None:
    file = say(tmp_path, advisory("PYSEC-1", "beta", aliases=["CVE-1"]))
    assert run(file, f"--ignore={id}=not reachable: no network", "--ignore=CVE-404") == 0
    text = capsys.readouterr().out
    assert rows(text)["beta 2.0"] == "beta 2.0 BSD-3-Clause every step 1 ignored"
    assert "    ignored: not reachable: no network\n" in text
    assert "--ignore CVE-404: applies to nothing here" in text
    assert "no vulnerability is known in 5 packages, besides 1 ignored" in text


def test_one_ignored_vulnerability_does_not_hide_another(tmp_path: Path) -> None:
    file = say(tmp_path, advisory("A-1", "beta"), advisory("A-2", "beta"))
    assert run(file, "--ignore=A-1") == 1
    assert run(file, "--ignore=A-1", "--ignore=A-2") == 0


def test_what_only_the_launcher_has_counts_and_is_said_to_be_its(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(say(tmp_path, advisory("A-1", "metaflow"))) == 1
    text = capsys.readouterr().out
    assert "metaflow 2.19 (the launcher)\n" in text
    assert "    no version that fixes it is known\n" in text


def test_steps_and_packages_can_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = say(tmp_path, advisory("A-1", "gamma"))
    assert run(file, "--step=end", "--step=start") == 0
    assert rows(capsys.readouterr().out)["beta 2.0"] == "beta 2.0 BSD-3-Clause every step"
    assert run(file, "--package=gamma", "--step=train") == 1
    capsys.readouterr()
    assert run(file, "--package=Beta") == 0
    text = capsys.readouterr().out
    assert "beta 2.0" in rows(text)
    assert "alpha" not in text
    assert "gamma" not in text
    for option, said in [("--step=other", "it has _launcher, end, start"), ("--package=delta", "alpha, beta, gamma")]:
        with pytest.raises(MfbazelError, match=said):
            run(option)


def test_a_lock_of_an_older_version_says_what_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lock(tmp_path, {sha: wheel(item["name"], item["version"], None) for sha, item in WHEELS.items()})
    assert run() == 0
    text = capsys.readouterr().out
    assert rows(text)["alpha 1.0"] == "alpha 1.0 not recorded start, train"
    assert "does not say the licence of 5 packages: an older mfbazel made it; run `bazel run //flows:demo.lock`" in text


def test_a_lock_without_a_flow_has_environments_instead_of_steps(lock: Path) -> None:
    table = json.loads((lock / "flow.json").read_text(encoding="utf-8"))
    (lock / "flow.json").write_text(json.dumps({**table, "flow": None}), encoding="utf-8")
    assert run() == 0


def test_advisories_are_looked_up_where_the_user_typed_then_where_the_target_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, target = tmp_path / "user", tmp_path / "target"
    for directory in (user, target):
        directory.mkdir()
    say(user, advisory("A-1", "alpha"))
    (target / "checked_in.json").write_text("[]", encoding="utf-8")
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(user))
    monkeypatch.chdir(target)
    assert run("--advisories=checked_in.json") == 0
    assert run("--advisories=checked_in.json", "--advisories=advisories.json") == 1
    with pytest.raises(MfbazelError, match=r"--advisories other\.json: there is no such file"):
        run("--advisories=other.json")


def test_without_a_lock_the_command_that_makes_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "demo.lock" / "flow.json").unlink()
    with pytest.raises(MfbazelError, match=r"there is no lock to audit\. Make it with `bazel run //flows:demo.lock`"):
        run()
