"""All flows of another workspace locked by one command: real Bazel in Bazel, a local wheelhouse."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.other_workspace import OtherWorkspace
from tests.lock.wheelhouse import wheel

FLOW = """\
from metaflow import Config, FlowSpec, config_expr, pypi, step
{imports}

class {name}(FlowSpec):
{body}
    @pypi(packages={packages})
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    {name}()
"""
BUILD = """\
load("@mfbazel//rules:defs.bzl", "metaflow_flow")
load("@rules_python//python:defs.bzl", "py_library")
"""
TARGET = """
metaflow_flow(
    name = "{name}",
    src = "{name}.py",
    base = "//:base",
    metaflow = "metaflow==99",
    python = "3.14",
    {more}
)
"""
GENERATED = """
genrule(name = "made", outs = ["made.py"], cmd = "echo 'import gamma' > $@")

py_library(name = "lib", srcs = [":made"], imports = ["."])
"""


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheelhouse")
    for name in ("metaflow", "packaging", "boto3", "requests"):
        wheel(directory, name, "99.0")
    for name in ("alpha", "beta", "gamma"):
        wheel(directory, name, "1.0")
        wheel(directory, name, "2.0")
    return directory


@pytest.fixture(scope="module")
def workspace(place: OtherWorkspace, wheelhouse: Path) -> OtherWorkspace:
    """Three flows in two packages: plain, with generated code, with a Config."""
    # For pip and uv when they lock; mfbazel's own packages are in the cache of wheels, since this test runs on them.
    index = {
        **{name: "" for name in os.environ if name.startswith(("PIP_", "UV_"))},
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_FIND_LINKS": str(wheelhouse),
        "PIP_NO_INDEX": "1",
        "UV_NO_CONFIG": "1",
    }
    made = replace(place, variables=index)
    made.begin()
    made.write(
        "BUILD.bazel",
        'alias(name = "lock_all", actual = "@mfbazel//:lock_all")\n\n'
        'alias(name = "push_all", actual = "@mfbazel//:push_all")\n\n'
        'filegroup(name = "base", visibility = ["//visibility:public"])\n',
    )
    add(made, "flows/plain", "plain", '{"alpha": ">=1"}')
    add(made, "flows/made", "generated", '{"alpha": ">=1"}', imports="import made", more='deps = [":lib"],')
    made.write("flows/made/BUILD.bazel", made.directory.joinpath("flows/made/BUILD.bazel").read_text() + GENERATED)
    add(
        made,
        "reports",
        "configured",
        'config_expr("settings.packages")',
        body='    settings = Config("settings", default="settings.json")\n',
        more='configs = {"settings": "settings.json"},',
    )
    made.write("reports/settings.json", '{"packages": {"beta": "1.0"}}')
    return made


def add(
    workspace: OtherWorkspace,
    package: str,
    name: str,
    packages: str,
    *,
    imports: str = "",
    body: str = "",
    more: str = "",
) -> None:
    """Add a flow with a package of its own."""
    title = name.capitalize()
    workspace.write(f"{package}/{name}.py", FLOW.format(name=title, imports=imports, body=body, packages=packages))
    workspace.write(f"{package}/BUILD.bazel", BUILD + TARGET.format(name=name, more=more))


def lock_all(workspace: OtherWorkspace, *options: str, directory: str = ".") -> subprocess.CompletedProcess[str]:
    return workspace.bazel("run", "//:lock_all", "--", *options, directory=directory)


def versions(workspace: OtherWorkspace, lock: str, step: str = "start") -> dict[str, str]:
    document = json.loads((workspace.directory / f"{lock}.lock" / "flow.json").read_text())
    wheels = document["wheels"]
    found = document["environments"][step]["wheels"]["linux/amd64"]
    return {wheels[sha]["name"]: wheels[sha]["version"] for sha in found if wheels[sha]["version"] != "99.0"}


def contents(workspace: OtherWorkspace) -> dict[str, bytes]:
    files = sorted(workspace.directory.glob("**/*.lock/*"))
    return {str(file.relative_to(workspace.directory)): file.read_bytes() for file in files}


def test_one_command_locks_every_flow_and_a_second_one_changes_nothing(workspace: OtherWorkspace) -> None:
    done = lock_all(workspace)
    assert done.returncode == 0, done.stderr
    assert "3 flows: 3 changed; 4 resolutions; " in done.stdout
    assert versions(workspace, "flows/plain/plain") == {"alpha": "2.0"}
    assert versions(workspace, "flows/made/generated") == {"alpha": "2.0"}
    assert versions(workspace, "reports/configured") == {"beta": "1.0"}
    before = contents(workspace)
    done = lock_all(workspace)
    assert "3 flows: 3 unchanged; 0 resolutions; " in done.stdout
    assert contents(workspace) == before
    alone = workspace.built("run", "//flows/made:generated.lock", "--", "--check").stdout
    assert "nothing to change" in alone


def test_generated_code_is_read_as_any_other(workspace: OtherWorkspace) -> None:
    lock = workspace.directory / "flows/made/generated.lock/flow.json"
    (step,) = (step for step in json.loads(lock.read_text())["flow"]["steps"] if step["name"] == "start")
    assert ["gamma", "made.py"] in [[entry["module"], Path(entry["file"]).name] for entry in step["inferred"]]


def test_patterns_count_from_the_working_directory_and_the_running_server_is_asked(workspace: OtherWorkspace) -> None:
    server = workspace.built("info", "server_pid").stdout
    done = lock_all(workspace, "...", "//reports:nothing", directory="flows")
    assert done.returncode == 1 and "no such target '//reports:nothing'" in done.stderr
    done = lock_all(workspace, "...", directory="flows")
    assert "2 flows: 2 unchanged; " in done.stdout
    assert workspace.built("info", "server_pid").stdout == server


def test_a_new_flow_is_locked_and_has_its_targets_without_an_edit_elsewhere(workspace: OtherWorkspace) -> None:
    module = (workspace.directory / "MODULE.bazel").read_bytes()
    before = contents(workspace)
    add(workspace, "flows/new", "fresh", '{"beta": ">=1"}')
    done = lock_all(workspace)
    assert "4 flows: 1 changed, 3 unchanged; " in done.stdout
    assert contents(workspace).items() >= before.items()
    targets = workspace.built("query", "//flows/new:all").stdout.split()
    assert {"//flows/new:fresh.start", "//flows/new:fresh.end", "//flows/new:fresh.images"} <= set(targets)
    assert (workspace.directory / "MODULE.bazel").read_bytes() == module


def test_the_policy_holds_for_all_flows_and_is_named_where_it_cannot(workspace: OtherWorkspace) -> None:
    workspace.write("mfbazel.toml", '[lock]\nconstraints = ["third_party/constraints.txt"]\n')
    workspace.write("third_party/constraints.txt", "alpha<2\n")
    try:
        assert lock_all(workspace, "--check").returncode == 1
        done = lock_all(workspace)
        assert re.search(
            r"^changed: alpha 2\.0 → 1\.0 .*: //flows/made:generated, //flows/plain:plain$", done.stdout, re.MULTILINE
        )
        assert versions(workspace, "flows/plain/plain") == {"alpha": "1.0"}
        workspace.write("third_party/constraints.txt", "beta<1\n")
        done = lock_all(workspace)
        assert done.returncode == 1
        assert "//reports:configured: " in done.stderr and "third_party/constraints.txt:1: beta<1" in done.stderr
        assert versions(workspace, "reports/configured") == {"beta": "1.0"}
    finally:
        (workspace.directory / "mfbazel.toml").unlink()


def test_a_lock_in_conflict_stops_its_own_flow_alone_and_is_made_anew(workspace: OtherWorkspace) -> None:
    lock_all(workspace)
    before = contents(workspace)
    broken = workspace.directory / "flows/plain/plain.lock/flow.json"
    broken.write_text("<<<<<<< HEAD\n" + broken.read_text())
    done = workspace.bazel("build", "//flows/plain:plain.images")
    assert "not JSON (after a merge conflict?). Make it with: bazel run //flows/plain:plain.lock" in done.stderr
    assert "nothing to change" in workspace.built("run", "//reports:configured.lock", "--", "--check").stdout
    workspace.built("run", "//flows/plain:plain.lock")
    assert contents(workspace) == before


def test_the_report_names_versions_flows_and_savings(workspace: OtherWorkspace) -> None:
    lock_all(workspace)
    document = json.loads(lock_all(workspace, "--report", "--json").stdout)
    (package,) = (package for package in document["packages"] if package["name"] == "beta")
    assert [version["version"] for version in package["versions"]] == ["2.0", "1.0"]
    assert [use["flow"] for version in package["versions"] for use in version["uses"]] == [
        "//flows/new:fresh",
        "//reports:configured",
    ]
    assert package["alignments"][0]["constraint"] == "beta==1.0"
    assert package["saving"]["layers"] == 1


def test_push_all_chooses_the_flows_whose_images_a_change_affects(workspace: OtherWorkspace) -> None:
    def chosen() -> dict[str, str]:
        done = workspace.built("run", "//:push_all", "--", "--list", "--json", "--since", "HEAD")
        return {flow["label"]: flow["because"] for flow in json.loads(done.stdout)["flows"]}

    lock_all(workspace)
    workspace.begin_history()
    try:
        lock = workspace.directory / "flows/plain/plain.lock/flow.json"
        lock.write_text(lock.read_text() + "\n")
        source = workspace.directory / "flows/made/generated.py"
        source.write_text(source.read_text() + "\n")
        assert chosen() == {"//flows/plain:plain": "flows/plain/plain.lock/flow.json changed"}
        workspace.git("checkout", "-q", ".")
        workspace.write("flows/made/defs.bzl", "")
        workspace.write("flows/made/more/BUILD.bazel", "")
        assert chosen().keys() >= {"//flows/made:generated", "//flows/plain:plain", "//reports:configured"}
    finally:
        workspace.git("checkout", "-q", ".")
        workspace.git("clean", "-q", "-f", "-d", "flows/made")
        shutil.rmtree(workspace.directory / ".git")


def test_branches_that_lock_different_flows_merge_without_a_conflict(workspace: OtherWorkspace) -> None:
    workspace.begin_history()
    for branch, package, name, pins in (
        ("left", "flows/plain", "plain", '{"beta": "2.0"}'),
        ("right", "flows/new", "fresh", '{"beta": "1.0"}'),
    ):
        workspace.git("checkout", "-q", "-b", branch, "main")
        add(workspace, package, name, pins)
        add(workspace, f"flows/{branch}", branch, '{"gamma": "1.0"}')
        assert lock_all(workspace).returncode == 0
        workspace.git("add", ".")
        workspace.git("commit", "-q", "-m", branch)
        touched = workspace.git("diff", "--name-only", "main").split()
        assert all(path.startswith((f"{package}/", f"flows/{branch}/")) for path in touched)
    workspace.git("merge", "-q", "-m", "both", "left")
    done = lock_all(workspace, "--check")
    assert done.returncode == 0, done.stdout
    assert "6 flows: 6 unchanged; 0 resolutions; " in done.stdout
    assert versions(workspace, "flows/plain/plain") == {"beta": "2.0"}
    assert versions(workspace, "flows/new/fresh") == {"beta": "1.0"}
