"""What is asked of Bazel, and what its answers mean."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from mfbazel.lock.errors import LockError
from mfbazel.lock.repository.bazel import Bazel, FlowFiles, flow_label, locking_pattern, read_events

BASE = "file:///cache/base%20dir"
BIN = ["bazel-out", "k8-fastbuild", "bin"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("//...", "//..."),
        ("//flows/...", "//flows/..."),
        ("flows/...", "flows/..."),
        ("...", "..."),
        ("//flows:all", "//flows:all"),
        ("//flows:*", "//flows:*"),
        (":all-targets", ":all-targets"),
        ("//flows:churn", "//flows:_churn.locking"),
        ("//flows:churn.lock", "//flows:_churn.locking"),
        ("//flows:_churn.locking", "//flows:_churn.locking"),
        ("//flows:sub/churn", "//flows:sub/_churn.locking"),
        ("//flows/churn", "//flows/churn:_churn.locking"),
        (":churn", ":_churn.locking"),
        ("flows:churn", "flows:_churn.locking"),
        ("@mfbazel//flows:churn", "@mfbazel//flows:_churn.locking"),
    ],
)
def test_the_name_of_a_flow_means_its_rule(pattern: str, expected: str) -> None:
    assert locking_pattern(pattern) == expected


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("//flows:_churn.locking", "//flows:churn"),
        ("@@//flows:_churn.locking", "//flows:churn"),
        ("//:_churn.locking", "//:churn"),
        ("//flows:_odd.locking.locking", "//flows:odd.locking"),
        ("//flows:__private.locking", "//flows:_private"),
    ],
)
def test_the_label_of_the_rule_tells_the_flow(label: str, expected: str) -> None:
    assert flow_label(label) == expected


def event_lines(completed: Sequence[dict[str, Any]]) -> list[str]:
    """Events as Bazel 7 writes them, of a flow that reads files of its own, generated ones and other repositories'."""
    files = {
        "3": {"files": [{"name": "flows/a.py", "uri": "file:///repository/flows/a.py"}], "fileSets": [{"id": "2"}]},
        "2": {
            "files": [
                {"name": "lib/made.py", "pathPrefix": BIN, "uri": f"{BASE}/execroot/_main/{'/'.join(BIN)}/lib/made.py"},
                {"name": "mfbazel.toml", "uri": f"{BASE}/external/ext~policy/mfbazel.toml"},
                {
                    "name": "external/other~/made.py",
                    "pathPrefix": BIN,
                    "uri": f"{BASE}/execroot/_main/{'/'.join(BIN)}/external/other~/made.py",
                },
            ]
        },
        "1": {
            "files": [
                {
                    "name": "flows/_a.locking.args",
                    "pathPrefix": BIN,
                    "uri": f"{BASE}/execroot/_main/{'/'.join(BIN)}/flows/_a.locking.args",
                }
            ],
            "fileSets": [{"id": "3"}, {"id": "2"}],
        },
    }
    events = [
        {"id": {"started": {}}, "started": {}},
        *({"id": {"namedSet": {"id": key}}, "namedSetOfFiles": value} for key, value in reversed(files.items())),
        *completed,
    ]
    return [json.dumps(event) for event in events]


def completed_event(label: str, *, success: bool = True, file_set: str = "1") -> dict[str, Any]:
    groups = [{"name": "default", "fileSets": [{"id": "2"}]}, {"name": "locking", "fileSets": [{"id": file_set}]}]
    return {"id": {"targetCompleted": {"label": label}}, "completed": {"success": success, "outputGroup": groups}}


def test_files_are_known_by_their_paths_in_the_execution_root_and_among_runfiles() -> None:
    (flow,) = read_events(event_lines([completed_event("//flows:_a.locking")]))
    base = Path("/cache/base dir")
    made = "bazel-out/k8-fastbuild/bin"
    assert flow.label == "//flows:a"
    assert flow.arguments == base / "execroot/_main" / made / "flows/_a.locking.args"
    assert {str(name): path for name, path in flow.files.items()} == {
        f"{made}/flows/_a.locking.args": flow.arguments,
        "flows/_a.locking.args": flow.arguments,
        "flows/a.py": Path("/repository/flows/a.py"),
        f"{made}/lib/made.py": base / "execroot/_main" / made / "lib/made.py",
        "lib/made.py": base / "execroot/_main" / made / "lib/made.py",
        "external/ext~policy/mfbazel.toml": base / "external/ext~policy/mfbazel.toml",
        "../ext~policy/mfbazel.toml": base / "external/ext~policy/mfbazel.toml",
        f"{made}/external/other~/made.py": base / "execroot/_main" / made / "external/other~/made.py",
        "../other~/made.py": base / "execroot/_main" / made / "external/other~/made.py",
    }


def test_a_flow_whose_files_were_not_built_is_left_out() -> None:
    events = [completed_event("//flows:_a.locking", success=False), completed_event("//flows:_b.locking")]
    assert [flow.label for flow in read_events(event_lines(events))] == ["//flows:b"]


def test_what_is_only_on_another_machine_is_an_error() -> None:
    (line,) = (line for line in event_lines([]) if "locking.args" in line)
    lines = [*event_lines([completed_event("//flows:_a.locking")]), line.replace(BASE, "bytestream://cache")]
    with pytest.raises(LockError, match=r"//flows:a: .*left it at bytestream://cache"):
        list(read_events(lines))


def test_links_stand_where_options_and_imports_look(tmp_path: Path) -> None:
    for name in ("a.py", "policy.toml"):
        (tmp_path / name).write_text(name)
    files = {
        PurePosixPath("flows/a.py"): tmp_path / "a.py",
        PurePosixPath("external/policy/policy.toml"): tmp_path / "policy.toml",
        PurePosixPath("../policy/policy.toml"): tmp_path / "policy.toml",
    }
    base = FlowFiles("//flows:a", tmp_path / "args", files).link(tmp_path / "links")
    assert (base / "flows/a.py").read_text() == "a.py"
    assert (base / "external/policy/policy.toml").read_text() == "policy.toml"
    assert (base / "../policy/policy.toml").read_text() == "policy.toml"
    assert sorted(path.name for path in base.iterdir()) == ["external", "flows"]


def test_bazel_is_the_one_that_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outer = tmp_path / "outer" / "execroot" / "_main" / "bazel-out" / "_tmp"
    place = outer / "base" / "execroot" / "_main" / "bazel-out" / "x.runfiles" / "_main"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    environ = {
        "BUILD_WORKSPACE_DIRECTORY": str(tmp_path),
        "BUILD_WORKING_DIRECTORY": str(tmp_path / "flows"),
        "MFBAZEL_BAZELW": "/somewhere/bazelw",
        "MFBAZEL_IN_TOOLBOX": "1",
        "MFBAZEL_TARGET": "//:lock_all",
        "PATH": "/bin",
        "PYTHONPATH": f"{place}:/mine",
        "RUNFILES_DIR": str(place),
    }
    bazel = Bazel.find(environ=environ)
    assert bazel.command == ["/somewhere/bazelw", f"--output_base={outer / 'base'}"]
    assert bazel.directory == tmp_path / "flows"
    assert bazel.environment == {
        "MFBAZEL_BAZELW": "/somewhere/bazelw",
        "MFBAZEL_IN_TOOLBOX": "1",
        "PATH": "/bin",
        "PYTHONPATH": "/mine",
    }
    named = Bazel.find("my-bazel --nohome_rc", environ)
    assert named.command == ["my-bazel", "--nohome_rc", f"--output_base={outer / 'base'}"]


def test_without_bazelw_it_is_what_lies_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {"BUILD_WORKSPACE_DIRECTORY": str(tmp_path), "PATH": str(tmp_path)}
    with pytest.raises(LockError, match="nor bazel is on PATH: name yours in MFBAZEL_BAZEL, or `--bazel COMMAND`"):
        Bazel.find(environ=environ)
    for name in ("bazel", "bazelisk"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
        assert Bazel.find(environ=environ).command == [str(tmp_path / name)]


def test_outside_of_bazel_run_it_says_how_to_start_it() -> None:
    with pytest.raises(LockError, match="bazel run //:lock_all"):
        Bazel.find(environ={"PATH": "/bin"})


def test_a_bazel_that_is_not_there_is_an_error_that_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(LockError, match=r"cannot start Bazel: /nowhere/bazel: .*--bazel"):
        Bazel(["/nowhere/bazel"], tmp_path, {}).find_flows(["//..."])
