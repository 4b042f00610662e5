"""Which flows a change affects: from what git and Bazel's query say to flows and reasons."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mfbazel.push.all_affected import find_affected
from mfbazel.push.all_bazel import images_pattern, read_built
from mfbazel.push.all_changes import Change, changes_since
from mfbazel.push.all_graph import Graph, read_nodes
from mfbazel.push.errors import PushError

LOCKS = "@@mfbazel~~locks~mfbazel_locks"
REASON_OF_ALL = {"//flows:a", "//flows:b"}


def rule(name: str, kind: str, *inputs: str) -> str:
    return json.dumps({"type": "RULE", "rule": {"name": name, "ruleClass": kind, "ruleInput": inputs}})


@dataclass
class Workspace:
    """A workspace with two flows; ``a`` bakes a library of another package and has a base of its own."""

    root: Path
    lines: list[str] = field(default_factory=list)

    def file(self, path: str, text: str = "") -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def source(self, label: str, text: str = "") -> None:
        """Add a source file that is a target."""
        path = label.removeprefix("@@//").replace(":", "/").lstrip("/")
        self.file(path, text)
        location = f"{self.root / path}:1:1"
        self.lines.append(json.dumps({"type": "SOURCE_FILE", "sourceFile": {"name": label, "location": location}}))

    def flow(self, name: str, *inputs: str) -> None:
        """Add a flow: its images, its lock, and the check that compares it with its source."""
        self.source(f"@@//flows:{name}.py")
        self.source(f"@@//flows:{name}.lock/flow.json", json.dumps({"wheels": {}}))
        check = f"@@//flows:_{name}.lock_check"
        lock = f"@@//flows:{name}.lock/flow.json"
        self.lines += [
            rule(check, "flow_lock_check", f"@@//flows:{name}.py", lock),
            rule(f"@@//flows:{name}.start", "native_image", f"{LOCKS}//flows/{name}:start.layers", *inputs),
            rule(f"@@//flows:{name}.images", "flow_images", check, lock, f"@@//flows:{name}.start"),
        ]

    def affected(self, *changes: Change) -> dict[str, str]:
        return dict(find_affected(self.root, Graph.of(read_nodes(self.lines)), changes).reasons)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "workspace")
    made.file("MODULE.bazel", 'module(name = "mine")\nuse_extension("//tools:setup.bzl", "x")\n')
    made.file("tools/setup.bzl", 'load(":more.bzl", "y")\n')
    made.file("tools/more.bzl")
    for package, text in (("flows", 'load("//macros:flow.bzl", "f")'), ("lib", ""), ("bases", ""), ("macros", "")):
        made.source(f"@@//{package}:BUILD.bazel", text)
    made.file("macros/flow.bzl", 'load(":inner.bzl", "i")\n')
    made.file("macros/inner.bzl")
    made.source("@@//lib:x.py")
    made.source("@@//bases:data")
    made.lines += [
        json.dumps(
            {"type": "GENERATED_FILE", "generatedFile": {"name": "@@//lib:x.tar", "generatingRule": "@@//lib:x"}}
        ),
        rule("@@//lib:x", "py_library", "@@//lib:x.py"),
        rule("@@//bases:base", "native_image", "@@//bases:data"),
        rule("@@//lib:unused", "py_library", "@@//lib:unused.py"),
    ]
    made.flow("a", "@@//lib:x.tar", "@@//bases:base")
    made.flow("b")
    return made


def test_a_file_affects_the_flows_whose_images_are_made_of_it(workspace: Workspace) -> None:
    assert workspace.affected(Change("lib/x.py")) == {"//flows:a": "lib/x.py changed"}


def test_code_that_only_the_lock_is_compared_with_needs_no_push(workspace: Workspace) -> None:
    assert workspace.affected(Change("flows/a.py"), Change("README.md"), Change("lib/unused.py", "added")) == {}


def test_a_lock_affects_its_own_flow_alone(workspace: Workspace) -> None:
    assert workspace.affected(Change("flows/b.lock/flow.json")) == {"//flows:b": "flows/b.lock/flow.json changed"}


def test_a_lock_affects_other_flows_that_take_images_made_from_it(workspace: Workspace) -> None:
    workspace.lines.append(rule("@@//bases:base", "native_image", f"{LOCKS}//flows/b:start.layers"))
    assert set(workspace.affected(Change("flows/b.lock/flow.json"))) == REASON_OF_ALL


def test_a_wheel_of_the_workspace_affects_the_flows_whose_locks_name_it(workspace: Workspace) -> None:
    lock = {"wheels": {"//lib:wheel": {"source": {"kind": "label", "label": "//lib:wheel"}}}}
    workspace.file("flows/b.lock/flow.json", json.dumps(lock))
    workspace.lines.append(rule("@@//lib:wheel", "py_wheel", "@@//lib:x.py"))
    assert set(workspace.affected(Change("lib/x.py"))) == REASON_OF_ALL


def test_a_build_file_affects_what_uses_its_package(workspace: Workspace) -> None:
    assert set(workspace.affected(Change("bases/BUILD.bazel"))) == {"//flows:a"}


def test_a_new_package_affects_the_one_around_it(workspace: Workspace) -> None:
    workspace.source("@@//bases/inner:BUILD.bazel")
    assert set(workspace.affected(Change("bases/inner/BUILD.bazel", "added"))) == {"//flows:a"}
    assert workspace.affected(Change("bases/inner/BUILD.bazel")) == {}


def test_a_package_that_is_gone_affects_what_still_names_it(workspace: Workspace) -> None:
    workspace.lines.append(rule("@@//flows:b.start", "native_image", "@@//gone:data"))
    assert set(workspace.affected(Change("gone/BUILD.bazel", "deleted"))) == {"//flows:b"}


def test_a_deleted_file_affects_its_package_since_a_pattern_may_have_matched_it(workspace: Workspace) -> None:
    assert workspace.affected(Change("bases/gone.txt", "deleted")) == {"//flows:a": "bases/gone.txt deleted"}


def test_a_loaded_file_affects_the_packages_that_load_it_through_others(workspace: Workspace) -> None:
    workspace.source("@@//bases:BUILD.bazel", 'load("//macros:inner.bzl", "i")')
    workspace.source("@@//flows:BUILD.bazel")
    assert workspace.affected(Change("macros/inner.bzl")) == {"//flows:a": "macros/inner.bzl changed"}


def test_a_file_in_a_directory_that_is_an_input_affects_its_flows(workspace: Workspace) -> None:
    workspace.lines.append(rule("@@//bases:base", "native_image", "@@//bases:tree"))
    assert set(workspace.affected(Change("bases/tree/deep/file"))) == {"//flows:a"}


def test_the_target_of_a_link_affects_the_flows_of_the_link(workspace: Workspace) -> None:
    link = workspace.root / "bases" / "data"
    workspace.file("elsewhere/real")
    link.unlink()
    link.symlink_to("../elsewhere/real")
    assert workspace.affected(Change("elsewhere/real")) == {"//flows:a": "elsewhere/real changed"}


@pytest.mark.parametrize(
    "path",
    [
        "MODULE.bazel",
        "mfbazel.toml",
        ".bazelrc",
        "ci/remote.bazelrc",
        ".bazelversion",
        ".bazeliskrc",
        "platform_mappings",
        "tools/setup.bzl",
        "tools/more.bzl",
    ],
)
def test_what_decides_about_everything_affects_every_flow(workspace: Workspace, path: str) -> None:
    found = workspace.affected(Change(path))
    assert set(found) == REASON_OF_ALL
    assert all(reason.startswith(f"{path} changed, ") for reason in found.values())


def test_a_file_that_nobody_loads_may_be_of_an_extension(workspace: Workspace) -> None:
    assert set(workspace.affected(Change("macros/unknown.bzl"))) == REASON_OF_ALL


def test_a_toolchain_affects_every_flow(workspace: Workspace) -> None:
    workspace.lines.append(rule("@@//lib:python", "toolchain", "@@//lib:x.tar"))
    assert workspace.affected(Change("lib/x.py"))["//flows:b"] == "lib/x.py changed, which //lib:python is made of"


def test_a_repository_that_module_bazel_takes_from_a_directory_affects_every_flow(workspace: Workspace) -> None:
    (workspace.root.parent / "beside").mkdir()
    assert workspace.affected(Change("../beside/x.py")) == {}
    module = workspace.root / "MODULE.bazel"
    module.write_text('local_path_override(module_name = "beside", path = "../beside")')
    assert set(workspace.affected(Change("../beside/x.py"))) == REASON_OF_ALL


def test_a_toolchain_is_made_of_what_it_stands_for_which_bazel_does_not_count(workspace: Workspace) -> None:
    entry = json.loads(rule("@@//lib:python", "toolchain", "@@//lib:type"))
    entry["rule"]["attribute"] = [{"name": "toolchain", "type": "STRING", "stringValue": "@@//lib:x", "nodep": True}]
    workspace.lines.append(json.dumps(entry))
    assert workspace.affected(Change("lib/x.py"))["//flows:b"] == "lib/x.py changed, which //lib:python is made of"


@pytest.mark.parametrize("label", ["@@//bases:ü ж.txt", "@@//bases:" + "ü ж.txt".encode().decode("latin-1")])
def test_names_that_are_not_ascii_are_found_however_bazel_writes_them(workspace: Workspace, label: str) -> None:
    workspace.lines.append(rule("@@//bases:base", "native_image", label))
    assert workspace.affected(Change("bases/ü ж.txt")) == {"//flows:a": "bases/ü ж.txt changed"}


def test_files_behind_a_link_to_a_directory_affect_the_flows_of_the_link(workspace: Workspace) -> None:
    for name in ("BUILD.bazel", "tree/deep"):
        workspace.file(f"shared/v1/{name}")
    (workspace.root / "linked").symlink_to("shared/v1")
    for name in ("BUILD.bazel", "tree/deep"):
        place = f"{workspace.root}/linked/{name}:1:1"
        source = {"name": f"@@//linked:{name}", "location": place}
        workspace.lines.append(json.dumps({"type": "SOURCE_FILE", "sourceFile": source}))
    workspace.lines.append(rule("@@//bases:base", "native_image", "@@//linked:tree/deep"))
    for change in (
        Change("shared/v1/tree/deep"),
        Change("shared/v1/BUILD.bazel"),
        Change("shared/v1/gone", "deleted"),
        Change("linked"),  # it leads elsewhere now
    ):
        assert workspace.affected(change) == {"//flows:a": str(change)}
    assert workspace.affected(Change("shared/v2/tree/deep")) == {}


def test_what_is_attached_to_an_image_affects_its_flow(workspace: Workspace) -> None:
    workspace.lines.append(rule("@@//flows:_b.push.arguments", "flow_command", "@@//flows:b.images", "@@//lib:x.tar"))
    assert set(workspace.affected(Change("lib/x.py"))) == REASON_OF_ALL


def test_what_bazelrc_names_affects_every_flow(workspace: Workspace) -> None:
    workspace.file(
        ".bazelrc",
        "import %workspace%/ci/bazel.rc\n"
        "common --override_module=rules_x=third_party/rules_x --vendor_dir vendor\n"
        "build --platform_mappings=ci/mappings\n",
    )
    workspace.file("ci/bazel.rc", 'try-import "%workspace%/ci/more.rc"\ncommon --downloader_config=%workspace%/ci/dl\n')
    workspace.file("ci/more.rc", "common --override_repository y=%workspace%/../beside\n")
    named = ["ci/bazel.rc", "ci/more.rc", "ci/dl", "ci/mappings", "third_party/rules_x/x.py", "vendor/y/BUILD"]
    for path in [*named, "../beside/x.py"]:
        assert workspace.affected(Change(path)) == dict.fromkeys(REASON_OF_ALL, f"{path} changed, which .bazelrc names")
    assert workspace.affected(Change("ci/other")) == workspace.affected(Change("third_party/x")) == {}


def test_what_module_extensions_and_included_files_name_affects_every_flow(workspace: Workspace) -> None:
    workspace.source("@@//tools:BUILD.bazel")
    workspace.file("MODULE.bazel", 'module(name = "mine")\ninclude("//tools:more.MODULE.bazel")\n')
    workspace.file(
        "tools/more.MODULE.bazel", 'use_extension("//tools:setup.bzl", "x")\nlocal_path_override(path = "own")'
    )
    workspace.file(
        "tools/more.bzl", 'VERSIONS = Label("//lib:versions.json")\nBUILD = """load("@mine//lib:rules.bzl")"""'
    )
    workspace.source("@@//lib:BUILD.bazel", 'load("//lib:rules.bzl", "r")')
    workspace.file("own/x.py")
    for path in ("own/x.py", "lib/versions.json", "lib/rules.bzl", "tools/more.bzl"):
        assert set(workspace.affected(Change(path))) == REASON_OF_ALL


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with two commits on ``main`` and one on a branch from the first, where a workspace is below."""
    root = tmp_path / "repository"
    (root / "ws").mkdir(parents=True)
    git(root, "init", "-q", "-b", "main")
    for name in ("kept", "edited", "removed", "moved"):
        (root / "ws" / f"{name} ü.txt").write_text(f"{name}\n" * 20)
    commit(root)
    git(root, "checkout", "-q", "-b", "branch")
    git(root, "checkout", "-q", "main")
    (root / "ws" / "of main").write_text("")
    commit(root)
    git(root, "checkout", "-q", "branch")
    return root


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "x")


def test_changes_are_those_of_this_branch_committed_or_not(repository: Path) -> None:
    workspace = repository / "ws"
    workspace.joinpath("edited ü.txt").write_text("else")
    commit(repository)
    workspace.joinpath("removed ü.txt").unlink()
    git(repository, "mv", "ws/moved ü.txt", "outside")
    workspace.joinpath("new").write_text("")
    workspace.joinpath(".gitignore").write_text("ignored\n")
    workspace.joinpath("ignored").write_text("")
    assert changes_since(workspace, "main") == [
        Change("../outside", "added"),
        Change(".gitignore", "added"),
        Change("edited ü.txt"),
        Change("moved ü.txt", "deleted"),
        Change("new", "added"),
        Change("removed ü.txt", "deleted"),
    ]


def test_an_unknown_revision_is_an_error_that_says_what_ci_has_to_fetch(repository: Path) -> None:
    for revision in ("origin/main", "--output=x"):
        with pytest.raises(PushError, match=rf"since {revision}.*fetch-depth: 0.*without --since"):
            changes_since(repository / "ws", revision)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("//...", "//..."),
        ("flows:all", "flows:all"),
        ("//flows:churn", "//flows:churn.images"),
        ("//flows:churn.push", "//flows:churn.images"),
        ("//flows:churn.images", "//flows:churn.images"),
        ("//flows/churn", "//flows/churn:churn.images"),
    ],
)
def test_the_name_of_a_flow_means_its_images(pattern: str, expected: str) -> None:
    assert images_pattern(pattern) == expected


def events(directory: Path, label: str, *, success: bool = True, scheme: str = "file") -> Iterator[str]:
    place = directory / "execroot/_main/bazel-out/bin/flows/a.images/push.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    prefix = "bazel-out/bin/flows"
    layouts = [["start", f"{prefix}/a.start"], ["end", "external/images/end"]]
    images, documents = f"{prefix}/a.images/images.json", [f"{prefix}/a.sboms/start.spdx.json"]
    content: dict[str, Any] = {"label": label, "images": images, "layouts": layouts, "attach": documents}
    content |= {"sign": "cosign", "sign_options": {"key": "cosign.key"}}
    place.write_text(json.dumps(content))
    file = {"name": "flows/a.images/push.json", "pathPrefix": ["bazel-out", "bin"], "uri": f"{scheme}://{place}"}
    group = [{"name": "push", "fileSets": [{"id": "0"}]}]
    done = {"success": success, "outputGroup": group}
    yield json.dumps({"id": {"namedSet": {"id": "0"}}, "namedSetOfFiles": {"files": [file]}})
    yield json.dumps({"id": {"targetCompleted": {"label": f"{label}.images"}}, "completed": done})


def test_images_lie_where_the_build_says_in_the_order_of_the_steps(tmp_path: Path) -> None:
    (built,) = read_built(events(tmp_path, "//flows:a"))
    root = tmp_path / "execroot" / "_main"
    assert built.label == "//flows:a"
    assert built.images == root / "bazel-out/bin/flows/a.images/images.json"
    assert list(built.layouts.items()) == [
        ("start", root / "bazel-out/bin/flows/a.start"),
        ("end", root / "external/images/end"),
    ]
    assert built.attach == [root / "bazel-out/bin/flows/a.sboms/start.spdx.json"]
    assert (built.sign, built.sign_options) == ("cosign", {"key": "cosign.key"})


def test_a_flow_that_could_not_be_built_is_left_out(tmp_path: Path) -> None:
    assert not list(read_built(events(tmp_path, "//flows:a", success=False)))


def test_images_that_are_only_on_another_machine_are_an_error(tmp_path: Path) -> None:
    lines: Sequence[str] = list(events(tmp_path, "//flows:a", scheme="bytestream"))
    with pytest.raises(PushError, match="left it at bytestream://"):
        list(read_built(lines))
