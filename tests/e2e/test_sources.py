"""What no index has, in the layers of an image: an sdist, a commit, a checked-in wheel, a target; Bazel in Bazel."""

from __future__ import annotations

import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.build.projects import project, repository, sdist
from tests.e2e.other_workspace import OtherWorkspace
from tests.lock.wheelhouse import wheel

FLOW = """\
from metaflow import FlowSpec, pypi, step


class Demo(FlowSpec):
    @pypi(packages={{"sourced": "", "forked @ git+{origin}@main": "", "vendored": "1.0", "features": ">=1"}})
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    Demo()
"""
BUILD = """\
load("@mfbazel//rules:defs.bzl", "metaflow_flow")

filegroup(name = "base")

genrule(
    name = "features_wheel",
    srcs = ["features.py"],
    outs = ["features-1.0-py3-none-any.whl"],
    cmd = "python3 $(location make_wheel.py) $@ '{requires}' $(SRCS)",
    tools = ["make_wheel.py"],
    visibility = ["//visibility:public"],
)

exports_files(["vendored-1.0-py3-none-any.whl"])

metaflow_flow(
    name = "demo",
    src = "demo.py",
    base = ":base",
    build = {build},
    metaflow = "metaflow==99",
    python = "3.14",
    wheels = [":features_wheel", "vendored-1.0-py3-none-any.whl"],
)
"""
MAKE_WHEEL = '''\
"""Stands for py_wheel, which not every distribution of rules_python has."""

import base64, hashlib, pathlib, sys, zipfile

output, requires, *sources = sys.argv[1:]
info = "features-1.0.dist-info"
files = {pathlib.Path(source).name: pathlib.Path(source).read_text() for source in sources}
files[info + "/METADATA"] = "Metadata-Version: 2.1\\nName: features\\nVersion: 1.0\\nRequires-Dist: " + requires + "\\n"
files[info + "/WHEEL"] = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
lines = []
for name, text in files.items():
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
    lines.append(name + ",sha256=" + digest + "," + str(len(text.encode())))
with zipfile.ZipFile(output, "w") as archive:
    for name, text in files.items():
        archive.writestr(name, text)
    archive.writestr(info + "/RECORD", "\\n".join([*lines, info + "/RECORD,,"]) + "\\n")
'''
MODULE = """
locks = use_extension("@mfbazel//rules:extensions.bzl", "locks")
use_repo(locks, "mfbazel_locks")
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, place: OtherWorkspace) -> OtherWorkspace:
    """A flow that requires one distribution of each kind."""
    scratch = tmp_path_factory.mktemp("sources")
    for name in ("metaflow", "packaging", "boto3", "requests"):
        wheel(scratch / "index", name, "99.0")
    for name in ("alpha", "helper"):
        wheel(scratch / "index", name, "1.0")
    sdist(scratch / "index", "sourced", "1.0", project("sourced", static=["helper"]))
    repository(scratch / "origin", project("forked", requires=["alpha"]))
    index = {
        **{name: "" for name in os.environ if name.startswith(("PIP_", "UV_"))},
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_FIND_LINKS": str(scratch / "index"),
        "PIP_NO_INDEX": "1",
        "UV_NO_CONFIG": "1",
    }
    made = replace(place, variables=index)
    made.begin()
    module = made.directory / "MODULE.bazel"
    module.write_text(module.read_text() + MODULE)
    made.write("demo.py", FLOW.format(origin=(scratch / "origin").as_uri()))
    made.write("make_wheel.py", MAKE_WHEEL)
    made.write("features.py", "answer = 41\n")
    wheel(made.directory, "vendored", "1.0")
    write_build(made)
    return made


def write_build(workspace: OtherWorkspace, build: str = '["forked", "sourced"]', requires: str = "alpha") -> None:
    workspace.write("BUILD.bazel", BUILD.format(build=build, requires=requires))


def layers(workspace: OtherWorkspace) -> dict[str, str]:
    """Build the layers of the step; return the text files in `site-packages` by name."""
    workspace.built("build", "@mfbazel_locks//demo:start.linux_amd64.layers", "--@mfbazel//rules:compression=none")
    listed = workspace.built(
        "cquery",
        "@mfbazel_locks//demo:start.linux_amd64.layers",
        "--output=files",
        "--@mfbazel//rules:compression=none",
    )
    found = {}
    root = Path(workspace.built("info", "execution_root").stdout.strip())
    for line in listed.stdout.split():
        with tarfile.open(root / line) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isreg() else None
                if content:
                    found[member.name.rpartition("site-packages/")[2]] = content.read().decode()
    return found


def document(workspace: OtherWorkspace) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((workspace.directory / "demo.lock" / "flow.json").read_text())
    return read


def test_building_must_be_asked_for(workspace: OtherWorkspace) -> None:
    write_build(workspace, build="[]")
    done = workspace.bazel("run", "//:demo.lock")
    assert done.returncode != 0
    assert 'attribute `build = ["forked"]` of the flow' in done.stderr
    assert not (workspace.directory / "demo.lock").exists()
    write_build(workspace)


def test_every_kind_of_source_is_locked_and_in_a_layer(workspace: OtherWorkspace) -> None:
    workspace.built("run", "//:demo.lock")
    kinds = {
        entry["name"]: entry["source"]["kind"] for entry in document(workspace)["wheels"].values() if "source" in entry
    }
    assert kinds == {"sourced": "sdist", "forked": "git", "vendored": "file", "features": "label"}
    assert "//:features_wheel" in document(workspace)["wheels"]
    files = layers(workspace)
    assert files["sourced.py"] == files["forked.py"] == files["vendored.py"] == "version = '1.0'\n"
    assert files["features.py"] == "answer = 41\n"
    assert "alpha.py" in files
    assert "helper.py" not in files
    workspace.built("test", "//:demo.lock_test")


def test_an_edit_of_first_party_code_needs_no_new_lock(workspace: OtherWorkspace) -> None:
    before = document(workspace)
    workspace.write("features.py", "answer = 42\n")
    assert layers(workspace)["features.py"] == "answer = 42\n"
    workspace.built("test", "//:demo.lock_test")
    done = workspace.built("run", "//:demo.lock", "--", "--check")
    assert "nothing to change" in done.stdout
    assert document(workspace) == before


def test_another_requirement_of_a_first_party_wheel_makes_the_lock_stale(workspace: OtherWorkspace) -> None:
    write_build(workspace, requires="alpha<2")
    done = workspace.bazel("test", "//:demo.lock_test", "--test_output=errors")
    assert done.returncode != 0
    assert "//:features_wheel: requirements is alpha<2, locked is alpha" in done.stdout + done.stderr
    write_build(workspace)


def test_another_content_of_a_checked_in_wheel_is_refused(workspace: OtherWorkspace) -> None:
    path = workspace.directory / "vendored-1.0-py3-none-any.whl"
    before = path.read_bytes()
    wheel(workspace.directory, "vendored", "1.0", modules=["vendored", "more"])
    done = workspace.bazel("build", "@mfbazel_locks//demo:start.linux_amd64.layers")
    assert done.returncode != 0
    assert "is not the file that was locked" in done.stderr
    path.write_bytes(before)
