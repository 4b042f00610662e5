"""Pushing a flow's images to a real registry: what is sent, what is confirmed, what is recorded."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.push_rig import (
    Proxy,
    find_crane,
    random_content,
    serve_registry,
    write_images_json,
    write_index_layout,
    write_layout,
)
from mfbazel import state
from mfbazel.push.__main__ import main
from mfbazel.push.errors import PushError

LABEL = "//examples/churn:churn_flow"
SHARED = random_content("shared", 300_000)


@dataclass
class Flow:
    """A flow's build output in a scratch directory, and how to push it."""

    root: Path
    repository: str | None
    layouts: dict[str, Path] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    repositories: dict[str, str] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    unstamped: list[str] = field(default_factory=list)

    def build(self, step: str, layers: dict[str, bytes]) -> None:
        """Build (again) the image of a step."""
        self.layouts[step] = self.root / "layouts" / step
        shutil.rmtree(self.layouts[step], ignore_errors=True)
        self.digests[step] = write_layout(self.layouts[step], layers)

    def push(self, *options: str) -> int:
        """Push through the command line; return the exit code."""
        images = write_images_json(self.root / "images.json", self.digests, self.repository, LABEL)
        content = json.loads(images.read_text())
        for step, entry in content["steps"].items():
            entry |= {"repository": self.repositories[step]} if self.repositories else {}
            entry |= {"tags": self.tags.get(step, {}), "unstamped_tags": self.unstamped}
        images.write_text(json.dumps(content))
        arguments = ["flow", f"--images={images}", f"--crane={find_crane()}", f"--workspace={self.root}"]
        return main([*arguments, *(f"--image={step}={path}" for step, path in self.layouts.items()), *options])

    @property
    def record(self) -> Path:
        """Where the push is recorded."""
        return state.images_path(self.root, LABEL)


@pytest.fixture(autouse=True)
def state_in_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep records in the scratch directory."""
    monkeypatch.setenv("MFBAZEL_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with serve_registry(find_crane(), tmp_path / "disk") as host:
        yield host


@pytest.fixture
def proxy(registry: str) -> Iterator[Proxy]:
    with Proxy(registry) as counting:
        yield counting


@pytest.fixture
def flow(tmp_path: Path, proxy: Proxy) -> Flow:
    """Three steps: two share a layer, the third is equal to the first."""
    made = Flow(tmp_path, f"{proxy.host}/ml/churn")
    made.build("start", {"shared": SHARED, "start": b"start"})
    made.build("train", {"shared": SHARED, "train": random_content("train", 50_000)})
    made.build("end", {"shared": SHARED, "start": b"start"})
    return made


def _crane_digest(reference: str) -> str:
    done = subprocess.run([find_crane(), "digest", reference], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_record_names_each_step_by_the_digest_that_the_registry_has(flow: Flow) -> None:
    assert flow.push() == 0
    content = json.loads(flow.record.read_text())
    assert content["repository"] == flow.repository
    assert content["label"] == LABEL
    for step, digest in flow.digests.items():
        image = content["steps"][step]["image"]
        assert image == f"{flow.repository}@{digest}"
        assert content["steps"][step]["platforms"] == ["linux/amd64"]
        assert _crane_digest(image) == digest


def test_a_layer_shared_by_steps_and_an_image_shared_by_steps_are_sent_once(flow: Flow, proxy: Proxy) -> None:
    flow.push("--no-artifact")
    counts = proxy.take()
    assert counts.of("POST", "/blobs/uploads/") == 5  # 3 layers, 2 configurations
    assert counts.of("PUT", "/manifests/") == 2
    sent = {
        path.name: path.stat().st_size
        for layout in flow.layouts.values()
        for path in (layout / "blobs/sha256").iterdir()
    }
    manifests = sum(sent[digest.removeprefix("sha256:")] for digest in set(flow.digests.values()))
    assert counts.blob_bytes == sum(sent.values()) - manifests
    assert counts.manifest_bytes == manifests


def test_a_second_push_asks_once_per_image_and_sends_nothing(flow: Flow, proxy: Proxy) -> None:
    flow.push()
    before = flow.record.stat()
    proxy.take()
    assert flow.push() == 0
    counts = proxy.take()
    assert counts.of("HEAD", "/manifests/") == 3
    assert sorted({method for method, _ in counts.requests}) == ["GET", "HEAD"]
    assert len(counts.requests) == 4  # a HEAD of the manifest for two images and their images.json, and one greeting
    assert counts.blob_bytes == counts.manifest_bytes == 0
    assert flow.record.stat().st_mtime_ns == before.st_mtime_ns


def test_a_bumped_layer_sends_that_layer_and_its_configuration_only(flow: Flow, proxy: Proxy) -> None:
    flow.push()
    proxy.take()
    flow.build("train", {"shared": SHARED, "train": random_content("bumped", 50_000)})
    flow.push("--no-artifact")
    counts = proxy.take()
    assert counts.of("POST", "/blobs/uploads/") == 2
    assert 50_000 < counts.blob_bytes < 55_000
    assert json.loads(flow.record.read_text())["steps"]["train"]["image"].endswith(flow.digests["train"])


def test_images_that_the_registry_lost_are_sent_again_although_recorded(tmp_path: Path, registry: str) -> None:
    flow = Flow(tmp_path, f"{registry}/ml/churn")
    flow.build("train", {"train": b"train"})
    flow.push()
    with serve_registry(find_crane(), tmp_path / "empty") as other:
        flow.repository = f"{other}/ml/churn"
        record = flow.record.read_text().replace(registry, other)
        flow.record.write_text(record)
        assert flow.push() == 0
        assert _crane_digest(f"{other}/ml/churn@{flow.digests['train']}") == flow.digests["train"]


def test_after_a_restart_of_cranes_registry_only_manifests_are_sent(tmp_path: Path) -> None:
    flow = Flow(tmp_path, None)
    flow.build("train", {"train": random_content("train", 50_000)})
    with serve_registry(find_crane(), tmp_path / "disk") as host:
        flow.repository = f"{host}/ml/churn"
        flow.push()
    port = int(host.rpartition(":")[2])
    with serve_registry(find_crane(), tmp_path / "disk", port) as again:
        assert again == host
        log = tmp_path / "disk.log"
        flow.push()
        assert "PUT /v2/ml/churn/manifests/" in log.read_text()
        assert "/blobs/uploads/" not in log.read_text()
        assert _crane_digest(f"{host}/ml/churn@{flow.digests['train']}") == flow.digests["train"]


def test_layouts_whose_blobs_are_symlinks_are_pushed(flow: Flow, tmp_path: Path) -> None:
    for number, blob in enumerate((flow.layouts["train"] / "blobs/sha256").iterdir()):
        target = tmp_path / f"output-{number}"
        blob.rename(target)
        blob.symlink_to(target)
    assert flow.push() == 0


def test_an_index_of_images_is_pushed_and_recorded_by_its_own_digest(tmp_path: Path, registry: str) -> None:
    flow = Flow(tmp_path, f"{registry}/ml/churn")
    write_layout(tmp_path / "amd64", {"train": b"amd64"})
    write_layout(tmp_path / "arm64", {"train": b"arm64"})
    flow.layouts["train"] = tmp_path / "index"
    flow.digests["train"] = write_index_layout(tmp_path / "index", [tmp_path / "amd64", tmp_path / "arm64"])
    assert flow.push() == 0
    assert _crane_digest(f"{flow.repository}@{flow.digests['train']}") == flow.digests["train"]


def test_tags_name_the_step_and_are_set_once(flow: Flow, proxy: Proxy) -> None:
    flow.push("--tag", "v1")
    assert _crane_digest(f"{flow.repository}:train-v1") == flow.digests["train"]
    assert _crane_digest(f"{flow.repository}:end-v1") == flow.digests["end"]
    proxy.take()
    flow.push("--tag", "v1")
    assert proxy.take().of("PUT") == 0


def test_results_go_to_standard_output_and_the_rest_to_standard_error(
    flow: Flow, capsys: pytest.CaptureFixture[str]
) -> None:
    flow.push()
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"{step.ljust(5)}  → {flow.repository}@{flow.digests[step]}" for step in ("start", "train", "end")
    ]
    assert "5 blobs, 3" in err
    assert "kB sent" in err
    assert err.rstrip().endswith(" s")
    assert "\x1b" not in out + err


def test_output_is_a_copy_of_the_record(flow: Flow, tmp_path: Path) -> None:
    flow.push("--output", str(tmp_path / "sub" / "out.json"))
    assert (tmp_path / "sub" / "out.json").read_text() == flow.record.read_text()


def test_the_repository_option_wins_over_the_configured_one(flow: Flow, registry: str) -> None:
    flow.push("--repository", f"{registry}/other/name")
    assert json.loads(flow.record.read_text())["repository"] == f"{registry}/other/name"


@pytest.mark.parametrize("change", ["missing", "cut off", "other manifest"])
def test_a_damaged_layout_is_refused_before_anything_is_sent(flow: Flow, proxy: Proxy, change: str) -> None:
    layout = flow.layouts["train"]
    manifest = layout / "blobs" / flow.digests["train"].replace(":", "/")
    layer = layout / "blobs" / json.loads(manifest.read_text())["layers"][1]["digest"].replace(":", "/")
    if change == "missing":
        layer.unlink()
        expected = rf"{layout} is not a whole OCI image layout: the blob sha256:{layer.name} is missing"
    elif change == "cut off":
        layer.write_bytes(layer.read_bytes()[:-1])
        expected = rf"digest mismatch in the image layout {layout}: the blob {layer} has \d+ bytes, but"
    else:
        manifest.write_bytes(manifest.read_bytes().replace(b'"schemaVersion": 2', b'"schemaVersion": 3'))
        expected = rf"digest mismatch in the image layout {layout}: the manifest {manifest} has the digest sha256:"
    with pytest.raises(PushError, match=expected):
        flow.push()
    assert proxy.take().requests == []
    assert not flow.record.exists()


def test_a_blob_with_other_bytes_is_named_when_the_registry_refuses_it(flow: Flow) -> None:
    layout = flow.layouts["train"]
    manifest = json.loads((layout / "blobs" / flow.digests["train"].replace(":", "/")).read_text())
    layer = layout / "blobs" / manifest["layers"][1]["digest"].replace(":", "/")
    layer.write_bytes(layer.read_bytes()[:-1] + b"\x00")
    with pytest.raises(PushError) as caught:
        flow.push()
    assert f"digest mismatch while pushing the image of the step 'train' to {flow.repository}" in str(caught.value)
    assert f"the blob {layer} has the digest sha256:" in str(caught.value)
    assert "Nothing was recorded" in str(caught.value)
    assert not flow.record.exists()


def test_a_failed_push_leaves_the_earlier_record_and_nothing_beside_it(flow: Flow) -> None:
    flow.push()
    before = flow.record.read_bytes()
    flow.build("train", {"train": b"changed"})
    flow.repository = "127.0.0.1:1/ml/churn"
    with pytest.raises(PushError):
        flow.push()
    assert flow.record.read_bytes() == before
    assert [path.name for path in flow.record.parent.iterdir()] == ["images.json"]


def test_images_json_and_layouts_of_different_builds_are_refused(flow: Flow) -> None:
    flow.digests["train"] = "sha256:" + "0" * 64
    with pytest.raises(PushError, match=r"digest mismatch for the step 'train': .* build the flow again"):
        flow.push()


def test_steps_without_layout_and_layouts_without_step_are_named(flow: Flow, tmp_path: Path) -> None:
    del flow.layouts["end"]
    flow.layouts["trian"] = tmp_path
    with pytest.raises(PushError, match=r"no --image for the step 'end'; --image for the unknown step 'trian'"):
        flow.push()


def test_a_missing_layout_is_named(flow: Flow, tmp_path: Path) -> None:
    flow.layouts["end"] = tmp_path / "nothing"
    with pytest.raises(PushError, match=rf"the image layout {tmp_path}/nothing is missing .*build the image again"):
        flow.push()


def test_an_invalid_configured_repository_names_the_attribute_and_the_flow(flow: Flow) -> None:
    flow.repository = "registry.example.com/ML/churn"
    with pytest.raises(
        PushError, match=rf"'registry.example.com/ML/churn' is invalid \(attribute `repository` of {LABEL}\)"
    ):
        flow.push()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "is not JSON"),
        ('{"schema": 2}', "is not an images.json of schema 1 .found: 2"),
        ('{"schema": 1, "steps": {}}', "names no step"),
        ('{"schema": 1, "steps": {"a": {"digest": "latest"}}}', "the step 'a' has no sha256 digest .found: 'latest'"),
    ],
)
def test_an_unusable_images_json_is_refused(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "images.json").write_text(content)
    with pytest.raises(PushError, match=expected):
        main(
            [
                "flow",
                f"--images={tmp_path}/images.json",
                "--image=a=b",
                f"--crane={find_crane()}",
                f"--workspace={tmp_path}",
            ]
        )


def test_a_missing_crane_is_named(flow: Flow) -> None:
    flow.repository = None
    with pytest.raises(PushError, match="crane, which serves the embedded registry, was not found: '/no/crane'"):
        flow.push("--crane", "/no/crane")


@pytest.mark.parametrize("wrong", [["--image=train"], ["--image=a=b", "--image=a=c"]])
def test_wrong_usage_exits_with_2(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["load", "--tag=x", *wrong])
    assert caught.value.code == 2
    assert "--image" in capsys.readouterr().err


def test_steps_may_have_repositories_of_their_own(flow: Flow, proxy: Proxy) -> None:
    flow.repository = None
    flow.repositories = {step: f"{proxy.host}/ml/{step}" for step in flow.digests}
    assert flow.push() == 0
    content = json.loads(flow.record.read_text())
    assert content["repository"] is None
    for step, digest in flow.digests.items():
        assert content["steps"][step]["image"] == f"{proxy.host}/ml/{step}@{digest}"
        assert _crane_digest(content["steps"][step]["image"]) == digest


def test_tags_of_the_build_are_set_and_those_that_wait_for_a_stamp_are_named(
    flow: Flow, capsys: pytest.CaptureFixture[str]
) -> None:
    flow.tags = {"train": {"train-0123": flow.digests["train"]}}
    flow.unstamped = ["{STABLE_GIT_COMMIT}"]
    assert flow.push() == 0
    assert _crane_digest(f"{flow.repository}:train-0123") == flow.digests["train"]
    said = capsys.readouterr().err
    assert f"tagged {flow.repository}:train-0123" in said
    assert "the tag {STABLE_GIT_COMMIT} is not set, since this build is not stamped: bazel run --stamp //" in said
