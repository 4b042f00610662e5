"""Which Bazel is called from within what Bazel started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mfbazel.bazel import NoBazelError, bazel_command, outer_environment


def program(path: Path) -> str:
    """Write an executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_the_first_that_is_there_is_called(tmp_path: Path) -> None:
    workspace, path = tmp_path / "workspace", tmp_path / "bin"
    workspace.mkdir()
    environ = {"PATH": str(path)}
    with pytest.raises(NoBazelError, match="name yours in MFBAZEL_BAZEL"):
        bazel_command(workspace, environ)
    for found in (path / "bazel", path / "bazelisk", workspace / "bazelw"):
        expected = program(found)
        assert bazel_command(workspace, environ | {"MFBAZEL_BAZEL": ""}) == [expected]
    assert bazel_command(None, environ) == [str(path / "bazelisk")]
    environ["MFBAZEL_BAZELW"] = "/elsewhere/bazelw"
    assert bazel_command(workspace, environ) == ["/elsewhere/bazelw"]
    environ["MFBAZEL_BAZEL"] = "'/my tools/bazel' --output_base=/var/b"
    assert bazel_command(workspace, environ) == ["/my tools/bazel", "--output_base=/var/b"]


def test_a_bazelw_that_cannot_be_executed_is_passed_over(tmp_path: Path) -> None:
    tmp_path.joinpath("bazelw").write_text("")
    found = program(tmp_path / "bin" / "bazel")
    assert bazel_command(tmp_path, {"PATH": str(tmp_path / "bin")}) == [found]


def test_what_is_about_the_executable_is_not_passed_on() -> None:
    environ = {
        "BUILD_WORKSPACE_DIRECTORY": "/w",
        "HOME": "/home/me",
        "MFBAZEL_FLOW_LOCK": "/w/flow.json",
        "MFBAZEL_PUSH": "auto",
        "MFBAZEL_STATE_DIR": "/state",
        "PYTHONPATH": os.pathsep.join(["/c/x.runfiles/_main", "/mine"]),
        "PYTHONSAFEPATH": "1",
        "RUNFILES_DIR": "/c/x.runfiles",
    }
    assert outer_environment(environ) == {"HOME": "/home/me", "MFBAZEL_STATE_DIR": "/state", "PYTHONPATH": "/mine"}
