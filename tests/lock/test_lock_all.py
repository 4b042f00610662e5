"""The command line of ``//:lock_all``, with a stand-in for Bazel and a local wheelhouse."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mfbazel.lock import cli
from mfbazel.lock.errors import LockError
from tests.lock.many_flows import Repository, make_wheels
from tests.lock.wheelhouse import use_only, wheel

# Answers `query` and `build` from plan.json: labels of rules, the files of each, and how either command ends.
_BAZEL = """
import json, pathlib, sys
here = pathlib.Path(__file__).parent
plan = json.loads((here / "plan.json").read_text())
with (here / "calls").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
option = lambda name: next(word.partition("=")[2] for word in sys.argv if word.startswith(name + "="))
if "query" in sys.argv:
    print("\\n".join(plan["flows"]))
    print(plan["query_says"], file=sys.stderr)
    sys.exit(plan["query_code"])
events = []
for label in pathlib.Path(option("--target_pattern_file")).read_text().split():
    if label in plan["failing"]:
        events.append({"id": {"targetCompleted": {"label": label}}, "aborted": {"reason": "ANALYSIS_FAILURE"}})
        print(f"ERROR: {label} is broken", file=sys.stderr)
        continue
    files = [{"name": name, "uri": f"file://{path}"} for name, path in plan["flows"][label].items()]
    events.append({"id": {"namedSet": {"id": label}}, "namedSetOfFiles": {"files": files}})
    groups = [{"name": "locking", "fileSets": [{"id": label}]}]
    completed = {"success": True, "outputGroup": groups}
    events.append({"id": {"targetCompleted": {"label": label}}, "completed": completed})
pathlib.Path(option("--build_event_json_file")).write_text("".join(json.dumps(event) + "\\n" for event in events))
sys.exit(1 if plan["failing"] else 0)
"""


@dataclass
class Rig:
    """A workspace whose Bazel knows what ``add`` added."""

    repository: Repository
    bazel: Path
    wheels: Path
    plan: dict[str, object] = field(
        default_factory=lambda: {"flows": {}, "failing": [], "query_code": 0, "query_says": ""}
    )

    def add(self, name: str, packages: dict[str, str], *options: str) -> None:
        flow = self.repository.add(name, packages, options)
        files = {str(name): str(path) for name, path in flow.files.items()}
        flows = self.plan["flows"]
        assert isinstance(flows, dict)
        flows[f"//flows:_{name}.locking"] = {**files, f"flows/_{name}.locking.args": str(flow.arguments)}

    def run(self, *options: str) -> int:
        (self.bazel.parent / "plan.json").write_text(json.dumps(self.plan))
        return cli.main(["all", "--bazel", f"{sys.executable} {self.bazel}", *options])

    def calls(self) -> list[list[str]]:
        path = self.bazel.parent / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    wheels = use_only(make_wheels(tmp_path / "wheelhouse"), tmp_path / "home", monkeypatch)
    repository = Repository(tmp_path / "workspace")
    (repository.directory / "flows").mkdir(parents=True)
    (repository.directory / "flows" / "BUILD.bazel").touch()
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(repository.directory))
    monkeypatch.chdir(tmp_path)
    bazel = tmp_path / "bazel" / "bazel.py"
    bazel.parent.mkdir()
    bazel.write_text(_BAZEL)
    return Rig(repository, bazel, wheels)


Output = Callable[[], tuple[str, str]]


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Output:
    """Return what was written to standard output and standard error since the last call."""

    def read() -> tuple[str, str]:
        captured = capsys.readouterr()
        return captured.out, captured.err

    return read


def test_every_flow_is_locked_with_a_line_of_progress_and_a_summary(rig: Rig, output: Output) -> None:
    for name in ("a", "b", "c"):
        rig.add(name, {"alpha": "1.0"})
    assert rig.run() == 0
    out, err = output()
    lines = err.splitlines()
    assert lines[0] == "finding the flows of //..."
    assert [line.partition("]")[0] for line in lines[1:]] == ["[1/3", "[2/3", "[3/3"]
    assert sorted(line.partition("] ")[2] for line in lines[1:]) == [f"//flows:{name}: 3 changes" for name in "abc"]
    assert "changed: new environments: //flows:a, //flows:b, //flows:c\n" in out
    assert "3 flows: 3 changed; 3 resolutions; " in out
    assert "\x1b" not in out + err
    assert all(rig.repository.lock(name).is_dir() for name in "abc")
    assert rig.run() == 0
    assert "3 flows: 3 unchanged; 0 resolutions; " in output()[0]


def test_patterns_reach_bazel_and_the_server_of_this_command_is_asked(rig: Rig) -> None:
    rig.add("a", {"alpha": "1.0"})
    rig.run("//flows/...", "//flows:a")
    query, build = rig.calls()
    assert query[-1] == """kind('^(flow_locking) rule$', "//flows/..." + "//flows:_a.locking")"""
    assert query[0] == "query" and build[0] == "build"
    assert "--keep_going" in query and "--keep_going" in build
    assert "--output_groups=locking" in build


def test_check_writes_nothing_and_fails_when_something_would_change(rig: Rig, output: Output) -> None:
    rig.add("a", {"alpha": "1.0"})
    assert rig.run("--check") == 1
    assert "would change: new environments: //flows:a" in output()[0]
    assert not rig.repository.lock("a").exists()
    rig.run()
    assert rig.run("--check") == 0


def test_a_change_that_many_flows_have_is_told_once_and_diff_tells_it_flow_by_flow(rig: Rig, output: Output) -> None:
    names = [f"flow{n}" for n in range(5)]
    for name in names:
        rig.add(name, {"alpha": ">=1"})
    rig.run()
    wheel(rig.wheels, "alpha", "2.5")
    output()
    assert rig.run("--upgrade", "--check") == 1
    told = "would change: alpha 2.0 → 2.5 (declared): //flows:flow0, //flows:flow1, //flows:flow2 and 2 more\n"
    assert told in output()[0]
    assert rig.run("--upgrade", "--diff") == 0
    out = output()[0]
    assert "".join(f"//flows:{name}\n  train: alpha 2.0 → 2.5 (declared)\n" for name in names) in out
    assert rig.run("--upgrade", "--diff", "--check") == 1
    assert "  train: alpha 2.0 → 2.5 (declared)\n" in output()[0]
    assert rig.run("--upgrade-package", "alpha") == 0
    assert "changed: alpha 2.0 → 2.5" in output()[0]


def test_a_package_to_upgrade_must_be_one_of_any_flow(rig: Rig) -> None:
    rig.add("a", {"alpha": ">=1"})
    rig.add("b", {"beta": ">=1"})
    rig.run()
    wheel(rig.wheels, "alpha", "2.5")
    wheel(rig.wheels, "alpha", "2.7")
    assert rig.run("--upgrade-package", "alpha<2.7") == 0
    assert "alpha==2.5" in (rig.repository.lock("a") / "train.txt").read_text()
    with pytest.raises(LockError, match="--upgrade-package alhpa: no step has this package; did you mean alpha"):
        rig.run("--upgrade-package", "alhpa")
    with pytest.raises(LockError, match="--upgrade-package: 'alpha=2' is not a requirement"):
        rig.run("--upgrade-package", "alpha=2")


def test_errors_are_listed_at_the_end_by_flow_and_the_others_are_locked(rig: Rig, output: Output) -> None:
    rig.add("a", {"alpha": "1.0"})
    rig.add("b", {"alpha": "9.0"})
    rig.add("c", {"beta": "9.0"})
    rig.add("d", {"beta": "1.0"})
    rig.plan["failing"] = ["//flows:_d.locking"]
    with pytest.raises(LockError) as caught:
        rig.run()
    message = str(caught.value)
    assert message.startswith("not locked:\n")
    parts = message.split("\n\n")
    assert parts[1].startswith("Bazel cannot build what //flows:d reads:\n") and "is broken" in parts[1]
    assert parts[2].startswith("//flows:b: ") and "alpha==9.0" in parts[2]
    assert parts[3].startswith("//flows:c: ") and "beta==9.0" in parts[3]
    out, err = output()
    assert "4 flows: 1 changed, 3 failed; " in out
    assert "//flows:b: failed" in err
    assert rig.repository.lock("a").is_dir()


def test_a_package_that_cannot_be_loaded_is_told_and_the_others_are_locked(rig: Rig) -> None:
    rig.add("a", {"alpha": "1.0"})
    rig.plan.update(query_code=3, query_says="ERROR: /w/other/BUILD.bazel:1:1: syntax error")
    with pytest.raises(LockError, match=r"Bazel cannot look at everything:\n.*other/BUILD.bazel:1:1: syntax error"):
        rig.run()
    assert rig.repository.lock("a").is_dir()


def test_when_bazel_fails_its_words_are_shown(rig: Rig) -> None:
    rig.plan.update(query_code=7, query_says="ERROR: no such target '//flows:_x.locking'")
    with pytest.raises(LockError, match=r"Bazel cannot find the flows(.|\n)*no such target '//flows:x'"):
        rig.run("//flows:x")


def test_no_flow_at_all_is_an_error(rig: Rig) -> None:
    with pytest.raises(LockError, match=r"there is no flow in //\.\.\."):
        rig.run()


def test_a_lock_that_no_flow_has_any_more_is_named(rig: Rig, output: Output) -> None:
    rig.add("a", {"alpha": "1.0"})
    rig.add("b", {"alpha": "1.0"})
    rig.run()
    assert "the lock of no flow" not in output()[1]
    flows = rig.plan["flows"]
    assert isinstance(flows, dict)
    del flows["//flows:_b.locking"]
    rig.run()
    assert "warning: flows/b.lock is the lock of no flow: there is no //flows:b; remove it\n" in output()[1]
    rig.run("//flows:a")
    assert "the lock of no flow" not in output()[1]


def test_the_report_is_made_of_the_locks_alone(rig: Rig, output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.add("a", {"alpha": "1.0", "beta": "1.0"})
    rig.add("b", {"alpha": ">=1", "beta": "2.0"})
    rig.run()
    assert "2 packages stand at several versions; what aligning saves: bazel run //:lock_all -- --report" in output()[0]
    (rig.repository.directory / "mfbazel.toml").write_text('[lock]\nconstraints = ["limits.txt"]\n')
    (rig.repository.directory / "limits.txt").touch()
    before = rig.repository.contents()
    monkeypatch.setenv("PATH", "")
    calls = len(rig.calls())
    assert rig.run("--report") == 0
    out = output()[0]
    assert "To align, write into limits.txt, and run `bazel run //:lock_all`:\n  alpha==1.0\n" in out
    assert "Declarations that stand against it:\n  beta 2.0: //flows:a (train): beta==1.0\n" in out
    assert "2 packages stand at several versions across 2 flows.\n" in out
    assert rig.run("--report", "--json", "//flows:a") == 0
    document = json.loads(output()[0])
    assert (document["flows"], document["packages"]) == (1, [])
    assert len(rig.calls()) == calls
    assert rig.repository.contents() == before


def test_what_the_report_proposes_aligns_the_locks(rig: Rig, output: Output) -> None:
    """The proposed line, written where it is said, leaves nothing to report."""
    policy = rig.repository.directory / "mfbazel.toml"
    policy.write_text('[lock]\nconstraints = ["limits.txt"]\n')
    limits = rig.repository.directory / "limits.txt"
    limits.touch()
    rig.add("a", {"alpha": "1.0"}, "--policy", str(policy))
    rig.add("b", {"alpha": ">=1"}, "--policy", str(policy))
    rig.run()
    output()
    rig.run("--report", "--json")
    report = json.loads(output()[0])
    (package,) = report["packages"]
    limits.write_text(f"{package['alignments'][0]['constraint']}\n")
    assert rig.run() == 0
    output()
    rig.run("--report", "--json")
    after = json.loads(output()[0])
    assert after["packages"] == []
    for key in ("wheel_bytes", "layers", "layer_bytes"):
        assert after["stored"][key] == report["stored"][key] - report["saving"][key]


def test_a_report_without_locks_says_how_to_make_them(rig: Rig) -> None:
    with pytest.raises(LockError, match=r"there is no lock of a flow in //\.\.\.; make them: `bazel run //:lock_all`"):
        rig.run("--report")


def test_wrong_usage_exits_with_2(rig: Rig, output: Output) -> None:
    for options in (["--jobs", "0"], ["--jobs", "many"], ["--frozen"]):
        with pytest.raises(SystemExit) as caught:
            rig.run(*options)
        assert caught.value.code == 2
    assert "is not a number from 1" in output()[1]


def test_options_that_do_not_go_together_are_an_error(rig: Rig) -> None:
    with pytest.raises(LockError, match="--report locks nothing: it goes with neither --check nor --diff"):
        rig.run("--report", "--diff")
    with pytest.raises(LockError, match="--json goes with --report"):
        rig.run("--json")
    assert not rig.calls()
