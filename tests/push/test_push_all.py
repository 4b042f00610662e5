"""All flows in one command: what is asked of Bazel, pushed in one run, and said of each. Bazel is a stand-in here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bench.push_rig import find_crane, random_content, write_images_json, write_layout
from mfbazel.errors import MfbazelError
from mfbazel.push.__main__ import main
from mfbazel.push.errors import PushError
from mfbazel.registry import Client
from tests.push.faulty_proxy import FaultyProxy
from tests.push.registries import Registry, crane_registry, docker_registry

SHARED = random_content("shared", 400_000)
BAZEL = """\
import json, pathlib, sys
here = pathlib.Path(__file__).parent
words = [word for word in sys.argv[1:] if not word.startswith("--output_base=")]  # where Bazel runs this test
answers = json.loads((here / "answers.json").read_text())
with (here / "asked").open("a") as asked:
    print(json.dumps(words), file=asked)
options = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--"))
if words[0] == "query":
    lines = answers["graph"] if '"//...:*"' in words[-1] else answers["flows"]
    print("\\n".join(map(json.dumps, lines)))
    sys.exit(answers.get("query_status", 0))
wanted = pathlib.Path(options["target_pattern_file"]).read_text().split()
built = [label for label in wanted if label in answers["built"]]
with open(options["build_event_json_file"], "w") as events:
    for number, label in enumerate(built):
        file = {"uri": "file://" + answers["built"][label], "pathPrefix": ["bazel-out", "bin"]}
        file["name"] = answers["built"][label].partition("/bin/")[2]
        print(json.dumps({"id": {"namedSet": {"id": str(number)}}, "namedSetOfFiles": {"files": [file]}}), file=events)
        done = {"success": True, "outputGroup": [{"name": "push", "fileSets": [{"id": str(number)}]}]}
        print(json.dumps({"id": {"targetCompleted": {"label": label}}, "completed": done}), file=events)
print("Bazel's own progress", file=sys.stderr)
sys.exit(0 if len(built) == len(wanted) else 1)
"""


@pytest.fixture(scope="module")
def crane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with crane_registry(tmp_path_factory.mktemp("crane")) as registry:
        yield registry


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with docker_registry(tmp_path_factory.mktemp("docker")) as registry:
        yield registry


@dataclass
class Workspace:
    """A workspace whose Bazel answers what the test says."""

    root: Path
    answers: dict[str, Any] = field(default_factory=lambda: {"flows": [], "graph": [], "built": {}})

    def rule(self, label: str, kind: str, *inputs: str, tags: tuple[str, ...] = ()) -> dict[str, Any]:
        attribute = [{"name": "tags", "stringListValue": list(tags)}]
        return {
            "type": "RULE",
            "rule": {"name": f"@@{label}", "ruleClass": kind, "ruleInput": list(inputs), "attribute": attribute},
        }

    def flow(
        self,
        name: str,
        repository: str | None,
        *,
        kind: str = "flow_images",
        tags: tuple[str, ...] = (),
        sign: str | None = None,
    ) -> None:
        """Add a flow of one step; with a repository it can be built."""
        found = self.rule(f"//ml:{name}.images", kind, f"@@//ml:{name}.txt", tags=tags)
        self.answers["flows"].append(found)
        self.answers["graph"].append(found)
        if not repository:
            return
        root = self.root / "base/execroot/_main"
        place = root / f"bazel-out/bin/ml/{name}"
        digest = write_layout(place / "start", {"shared": SHARED, name: name.encode()})
        images = write_images_json(place / "images.json", {"start": digest}, repository, f"//ml:{name}")
        content: dict[str, Any] = {
            "label": f"//ml:{name}",
            "images": str(images.relative_to(root)),
            "layouts": [["start", str((place / "start").relative_to(root))]],
            "attach": [],
            "sign": sign,
            "sign_options": {},
        }
        (place / "push.json").write_text(json.dumps(content))
        self.answers["built"][f"//ml:_{name}.push.arguments"] = str(place / "push.json")

    def push(self, *options: str) -> int:
        (self.root / "answers.json").write_text(json.dumps(self.answers))
        bazel = f"{sys.executable} {self.root / 'bazel.py'}"
        return main(["all", f"--bazel={bazel}", f"--crane={find_crane()}", *options])

    @property
    def asked(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.root / "asked").read_text().splitlines()]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("MFBAZEL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(tmp_path))
    (tmp_path / "bazel.py").write_text(BAZEL)
    return Workspace(tmp_path)


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def states(result: dict[str, Any]) -> dict[str, str]:
    return {flow["label"]: flow["state"] for flow in result["flows"]}


def test_flows_of_different_registries_are_pushed_in_one_run_and_each_blob_once(
    workspace: Workspace, crane: Registry, docker: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    with FaultyProxy(docker.host) as proxy:
        workspace.flow("a", f"{proxy.host}/all/a")
        workspace.flow("b", f"{proxy.host}/all/b")
        workspace.flow("c", f"{crane.host}/all/c")
        assert workspace.push("--json", "--output=out", "--tag=v1") == 0
        assert sum(seen.arrived for seen in proxy.seen if seen.method in ("PATCH", "PUT")) < 1.5 * len(SHARED)
        result = document(capsys)
        assert states(result) == dict.fromkeys(("//ml:a", "//ml:b", "//ml:c"), "pushed")
        for flow in result["flows"]:
            written = json.loads(
                (workspace.root / "out" / flow["label"][2:].replace(":", "/") / "images.json").read_text()
            )
            image = flow["images"]["start"]
            assert written["steps"]["start"]["image"] == image
            repository, _, digest = image.partition("@")
            host, _, path = repository.partition("/")
            tagged = Client(host).head_manifest(path, "start-v1")
            assert tagged and tagged.digest == digest
        assert {blob["outcome"] for blob in result["blobs"]} == {"sent", "mounted"}
        assert workspace.push("--json") == 0
    assert document(capsys)["sent_bytes"] == 0


def test_a_flow_that_fails_does_not_stop_the_others(
    workspace: Workspace, docker: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.flow("good", f"{docker.host}/all/good")
    workspace.flow("unreachable", "127.0.0.1:1/all/unreachable")
    workspace.flow("unbuilt", None)
    workspace.flow("unlocked", None, kind="missing_lock", tags=("manual",))
    assert workspace.push("--json") == 1
    captured = capsys.readouterr()
    flows = {flow["label"]: flow for flow in json.loads(captured.out)["flows"]}
    assert flows["//ml:good"]["state"] == "pushed"
    assert "cannot be reached" in flows["//ml:unreachable"]["error"]
    assert "could not build" in flows["//ml:unbuilt"]["error"]
    assert "bazel run //ml:unlocked.lock" in flows["//ml:unlocked"]["error"]
    assert "4 flows: 3 failed, 1 pushed; " in captured.err


def test_unless_told_otherwise(workspace: Workspace, docker: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    workspace.flow("good", f"{docker.host}/all/fast")
    workspace.flow("unbuilt", None)
    assert workspace.push("--json", "--fail-fast") == 1
    flows = {flow["label"]: flow for flow in document(capsys)["flows"]}
    assert "since another flow failed" in flows["//ml:good"]["error"]
    assert Client(docker.host).head_manifest("all/fast", "start") is None
    assert "--keep_going" not in next(words for words in workspace.asked if words[0] == "build")


def test_where_all_of_it_fails_there_is_json_too(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    workspace.flow("a", None)
    with pytest.raises(MfbazelError) as raised:
        workspace.push("--json", "--since=nowhere")
    assert document(capsys) == {"schema": 1, "error": str(raised.value)}


def test_flows_that_are_tagged_manual_are_left_out_unless_they_are_named(
    workspace: Workspace, docker: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.flow("usual", f"{docker.host}/all/usual")
    workspace.flow("manual", f"{docker.host}/all/manual", tags=("manual",))
    workspace.flow("draft", None, kind="missing_lock", tags=("manual",))
    workspace.answers["flows"].append(workspace.rule("//ml:draft.spec", "flow_spec", tags=("manual",)))
    assert workspace.push("--list", "--json") == 0
    assert states(document(capsys)) == {"//ml:usual": "chosen"}
    workspace.answers["flows"] = workspace.answers["flows"][1:2]
    assert workspace.push("--list", "//ml:manual") == 0
    assert capsys.readouterr().out == "//ml:manual\n"


def test_only_flows_that_changes_affect_are_built_and_the_reason_is_said(
    workspace: Workspace, docker: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        workspace.flow(name, f"{docker.host}/since/{name}")
        (workspace.root / "ml").mkdir(exist_ok=True)
        (workspace.root / "ml" / f"{name}.txt").write_text(name)
        workspace.answers["graph"].append({"type": "SOURCE_FILE", "sourceFile": {"name": f"@@//ml:{name}.txt"}})
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "ml"], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *command], cwd=workspace.root, check=True)
    (workspace.root / ".git/info/exclude").write_text("*\n!/ml/\n!/ml/*\n")
    (workspace.root / "ml/b.txt").write_text("changed")
    assert workspace.push("--json", "--since=HEAD", "--stamp", "--build-option=--config=ci") == 0
    captured = capsys.readouterr()
    (flow,) = json.loads(captured.out)["flows"]
    assert (flow["label"], flow["because"]) == ("//ml:b", "ml/b.txt changed")
    assert "//ml:b: because ml/b.txt changed" in captured.err
    assert "1 changed file since HEAD: 1 flow affected, 1 not" in captured.err
    assert workspace.asked[-1][-2:] == ["--stamp", "--config=ci"]
    subprocess.run([*git, "commit", "-q", "-a", "-m", "y"], cwd=workspace.root, check=True)
    assert workspace.push("--json", "--since=HEAD") == 0
    assert document(capsys)["flows"] == []


@pytest.mark.parametrize("revision", ["0" * 40, ""])
def test_without_an_earlier_revision_every_flow_is_chosen(
    workspace: Workspace, docker: Registry, capsys: pytest.CaptureFixture[str], revision: str
) -> None:
    workspace.flow("a", f"{docker.host}/zeros/a")
    assert workspace.push("--json", "--list", f"--since={revision}") == 0
    assert states(document(capsys)) == {"//ml:a": "chosen"}


def test_a_flow_is_signed_by_whom_its_attributes_name(
    workspace: Workspace, docker: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.flow("signed", f"{docker.host}/all/signed", sign="nobody")
    assert workspace.push("--json") == 1
    assert "nobody" in document(capsys)["flows"][0]["error"]
    assert workspace.push("--json", "--no-sign") == 0
    assert states(document(capsys)) == {"//ml:signed": "pushed"}


def test_a_dry_run_builds_and_sends_nothing(
    workspace: Workspace, docker: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.flow("dry", f"{docker.host}/all/dry")
    assert workspace.push("--json", "--dry-run") == 0
    result = document(capsys)
    assert states(result) == {"//ml:dry": "checked"}
    assert result["sent_bytes"] > len(SHARED)
    assert Client(docker.host).head_manifest("all/dry", "start") is None


def test_what_bazel_cannot_load_is_an_error_after_the_others_are_pushed(workspace: Workspace, docker: Registry) -> None:
    workspace.flow("good", f"{docker.host}/all/loaded")
    workspace.answers["query_status"] = 3
    with pytest.raises(PushError, match="not everything could be looked at"):
        workspace.push()
    assert any((workspace.root / "state").rglob("images.json"))


def test_patterns_that_name_no_flow_are_an_error(workspace: Workspace) -> None:
    with pytest.raises(PushError, match=r"there is no flow in //nothing/..."):
        workspace.push("//nothing/...")
