"""Promoting the images of a flow: from registry to registry by digest, with what belongs to them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.push_rig import find_crane, random_content, write_images_json, write_index_layout, write_layout
from mfbazel import state
from mfbazel.policy import PolicyError
from mfbazel.push.__main__ import main
from mfbazel.push.errors import PushError
from mfbazel.registry import Client, fetch_images
from mfbazel.registry.client import INDEX, MANIFEST, digest_of
from mfbazel.registry.referrers import get_referrers, tagged_referrers
from tests.push.faulty_proxy import Fault, FaultyProxy, Reply, Truncate
from tests.push.registries import Registry, crane_registry, docker_registry

LABEL = "//ml:churn"
BIG = random_content("big", 3_000_000)
SBOM = "application/spdx+json"


@pytest.fixture(scope="module")
def crane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with crane_registry(tmp_path_factory.mktemp("crane")) as registry:
        yield registry


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with docker_registry(tmp_path_factory.mktemp("docker")) as registry:
        yield registry


@pytest.fixture(autouse=True)
def own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep records and begun uploads in the scratch directory; nothing around it is a workspace."""
    monkeypatch.setenv("MFBAZEL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@dataclass
class Pushed:
    """A pushed flow: ``start`` is an image, ``train`` an index of two, which share a layer with it."""

    root: Path
    repository: str
    digests: dict[str, str]

    @property
    def record(self) -> Path:
        return state.images_path(self.root, LABEL)

    @property
    def host(self) -> str:
        return self.repository.partition("/")[0]

    @property
    def path(self) -> str:
        return self.repository.partition("/")[2]


def push(root: Path, repository: str) -> Pushed:
    """Push the flow, each image with a tag."""
    layouts = {"start": root / "start", "train": root / "train"}
    digests = {"start": write_layout(layouts["start"], {"big": BIG, "start": b"start"})}
    for name in ("amd64", "arm64"):
        write_layout(root / name, {"big": BIG, name: random_content(name, 10_000)})
    digests["train"] = write_index_layout(layouts["train"], [root / "amd64", root / "arm64"])
    images = write_images_json(root / "images.json", digests, repository, LABEL)
    content = json.loads(images.read_text())
    for step, entry in content["steps"].items():
        entry["tags"] = {f"{step}-v1": digests[step]}
    content["tags"] = ["{step}-v1"]
    images.write_text(json.dumps(content))
    arguments = ["flow", f"--images={images}", f"--crane={find_crane()}", f"--workspace={root}"]
    assert main([*arguments, *(f"--image={step}={path}" for step, path in layouts.items())]) == 0
    return Pushed(root, repository, digests)


def promote(*arguments: str) -> int:
    return main(["promote", f"--label={LABEL}", *arguments])


def promoted(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert promote("--json", *arguments) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def attach(client: Client, path: str, subject: str, kind: str, content: bytes, *, tag: str = "") -> str:
    """Attach a document to a manifest; with ``tag`` as cosign does, else as a referrer. Return its digest."""
    client.put_blob(path, b"{}")
    client.put_blob(path, content)
    there = client.head_manifest(path, subject)
    assert there
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": kind,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(b"{}"), "size": 2},
        "layers": [{"mediaType": kind, "digest": digest_of(content), "size": len(content)}],
    }
    if not tag:
        manifest["subject"] = {"mediaType": there.media_type, "digest": subject, "size": there.size}
    data = json.dumps(manifest).encode()
    digest = client.put_manifest(path, tag or digest_of(data), data)
    if not tag and get_referrers(client, path, subject) is None:
        listed = [
            *tagged_referrers(client, path, subject),
            {"mediaType": MANIFEST, "digest": digest, "size": len(data)},
        ]
        index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": listed}
        client.put_manifest(path, subject.replace(":", "-"), json.dumps(index).encode(), str(index["mediaType"]))
    return digest


def blobs(client: Client, flow: Pushed) -> list[tuple[str, int]]:
    """Return digest and size of the layers of the first image."""
    content = json.loads(client.get_manifest(flow.path, flow.digests["start"]).data)
    return [(layer["digest"], layer["size"]) for layer in content["layers"]]


@pytest.mark.parametrize("direction", ["crane to docker", "docker to crane"])
def test_images_go_by_digest_with_tags_referrers_and_their_map(
    tmp_path: Path, crane: Registry, docker: Registry, direction: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = (crane, docker) if direction == "crane to docker" else (docker, crane)
    flow = push(tmp_path, f"{source.host}/dev/{direction.replace(' ', '-')}")
    client = Client(source.host)
    sbom = attach(client, flow.path, flow.digests["start"], SBOM, b"sbom")
    signature = attach(client, flow.path, sbom, "application/vnd.example.signature", b"signature of the SBOM")
    cosign_tag = flow.digests["train"].replace(":", "-") + ".sig"
    cosign = attach(client, flow.path, flow.digests["train"], "application/x", b"cosign", tag=cosign_tag)
    record = flow.record.read_bytes()

    to = f"{target.host}/prod/{direction.replace(' ', '-')}"
    result = promoted(capsys, f"--to={to}", "--output=promoted.json", "--tag=stable")
    assert result["images"] == {step: f"{to}@{digest}" for step, digest in flow.digests.items()}
    assert sorted(result["referrers"]) == sorted(f"{to}@{digest}" for digest in (sbom, signature, cosign))

    there, path = Client(target.host), to.partition("/")[2]
    for step, digest in flow.digests.items():
        for tag in (f"{step}-v1", f"{step}-stable"):
            found = there.head_manifest(path, tag)
            assert found and found.digest == digest
        manifests = json.loads(there.get_manifest(path, digest).data).get("manifests", [{"digest": digest}])
        for child in manifests:
            content = json.loads(there.get_manifest(path, child["digest"]).data)
            assert all(there.head_blob(path, blob["digest"]) for blob in (content["config"], *content["layers"]))
    for subject, digest in ((flow.digests["start"], sbom), (sbom, signature)):
        listed = get_referrers(there, path, subject) or tagged_referrers(there, path, subject)
        assert [entry["digest"] for entry in listed] == [digest]
    found = there.head_manifest(path, cosign_tag)
    assert found and found.digest == cosign

    written = json.loads(Path("promoted.json").read_text())
    assert written["repository"] == to
    assert written["steps"]["train"]["image"] == f"{to}@{flow.digests['train']}"
    assert json.loads(fetch_images(f"{to}:churn.images")) == written
    assert json.loads(fetch_images(f"{to}:churn.images-stable")) == written
    assert flow.record.read_bytes() == record  # what runs from here still names what was pushed from here

    again = promoted(capsys, f"--to={to}")
    assert again["sent_bytes"] == 0 and again["blobs"] == [] and again["tags"] == []


def test_between_repositories_of_a_registry_blobs_are_mounted(
    tmp_path: Path, docker: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = push(tmp_path, f"{docker.host}/dev/mounted")
    result = promoted(capsys, f"--to={docker.host}/prod/mounted")
    assert result["sent_bytes"] == 0
    assert {blob["outcome"] for blob in result["blobs"]} == {"mounted"}
    assert Client(docker.host).head_manifest("prod/mounted", flow.digests["train"])


def test_a_blob_that_images_share_is_read_and_sent_once(tmp_path: Path, crane: Registry, docker: Registry) -> None:
    with FaultyProxy(crane.host) as source, FaultyProxy(docker.host) as target:
        flow = push(tmp_path, f"{source.host}/dev/once")
        assert promote(f"--to={target.host}/prod/once") == 0
        (big,) = (digest for digest, size in blobs(Client(crane.host), flow) if size > len(BIG) - 1)
        assert len(source.of("GET", big)) == 1
        assert sum(seen.arrived for seen in target.seen if seen.method in ("PATCH", "PUT")) < 1.1 * len(BIG)


def test_steps_can_have_repositories_of_their_own(
    tmp_path: Path, crane: Registry, docker: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = push(tmp_path, f"{crane.host}/dev/steps")
    result = promoted(capsys, f"--to={docker.host}/prod/steps/{{step}}", "--output=promoted.json")
    assert result["images"]["train"] == f"{docker.host}/prod/steps/train@{flow.digests['train']}"
    assert json.loads(Path("promoted.json").read_text())["steps"]["train"]["repository"].endswith("/prod/steps/train")


def test_what_was_published_is_enough_and_no_workspace_is_needed(
    tmp_path: Path, crane: Registry, docker: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = push(tmp_path, f"{crane.host}/dev/published")
    monkeypatch.delenv("BUILD_WORKSPACE_DIRECTORY")
    monkeypatch.setenv("MFBAZEL_STATE_DIR", str(tmp_path / "nothing here"))
    assert (
        main(["promote", f"--images=oci://{flow.repository}:churn.images", f"--to={docker.host}/prod/published"]) == 0
    )
    assert Client(docker.host).head_manifest("prod/published", flow.digests["start"])


def test_a_dry_run_says_what_would_be_sent_and_sends_nothing(
    tmp_path: Path, crane: Registry, docker: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    push(tmp_path, f"{crane.host}/dev/dry")
    result = promoted(capsys, f"--to={docker.host}/prod/dry", "--dry-run")
    assert {blob["outcome"] for blob in result["blobs"]} == {"would be sent"}
    assert result["sent_bytes"] > len(BIG)
    assert not (docker.storage / "docker/registry/v2/repositories/prod/dry").exists()


def test_a_connection_that_breaks_while_reading_goes_on_where_it_stopped(
    tmp_path: Path, crane: Registry, docker: Registry
) -> None:
    with FaultyProxy(crane.host) as proxy:
        flow = push(tmp_path, f"{proxy.host}/dev/cut")
        proxy.script(Fault(Truncate(1_000_000), "GET", "blobs/", times=2))
        assert promote(f"--to={docker.host}/prod/cut") == 0
        assert proxy.hits() == 2
    assert Client(docker.host).head_manifest("prod/cut", flow.digests["start"])


def test_a_source_that_has_other_bytes_is_named_and_nothing_is_tagged(
    tmp_path: Path, crane: Registry, docker: Registry
) -> None:
    flow = push(tmp_path, f"{crane.host}/dev/wrong")
    (digest,) = (digest for digest, size in blobs(Client(crane.host), flow) if size > len(BIG) - 1)
    with FaultyProxy(crane.host) as proxy:
        record = flow.record.read_text().replace(crane.host, proxy.host)
        Path("record.json").write_text(record)
        wrong = Reply(200, {"Content-Type": "application/octet-stream"}, bytes(len(BIG) + 10_000))
        proxy.script(Fault(wrong, "GET", digest, times=0))
        with pytest.raises(PushError, match=rf"{proxy.host} has other bytes of .*{digest}"):
            promote("--images=record.json", f"--to={docker.host}/prod/wrong")
    assert Client(docker.host).head_manifest("prod/wrong", "start-v1") is None


@pytest.mark.parametrize(
    "content",
    [
        {"mediaType": INDEX, "manifests": [None]},
        {"mediaType": INDEX, "manifests": [{"digest": "latest"}]},
        {"mediaType": MANIFEST, "subject": "x", "config": "x", "layers": [{}]},
    ],
)
def test_what_refers_to_an_image_and_is_damaged_is_named(
    tmp_path: Path, crane: Registry, docker: Registry, content: dict[str, Any]
) -> None:
    """Who may write to the source can list anything."""
    flow = push(tmp_path, f"{docker.host}/dev/damaged")
    data = json.dumps({"schemaVersion": 2, **content}).encode()
    listed = [{"mediaType": content["mediaType"], "digest": digest_of(data), "size": len(data)}]
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}).encode()
    with FaultyProxy(docker.host) as proxy:
        answers = {flow.digests["start"].replace(":", "-"): index, digest_of(data): data}
        proxy.script(
            *(
                Fault(Reply(200, {"Content-Type": INDEX}, answer), "GET", f"manifests/{name}", times=0)
                for name, answer in answers.items()
            )
        )
        Path("record.json").write_text(flow.record.read_text().replace(docker.host, proxy.host))
        with pytest.raises(PushError, match=f"{digest_of(data)} names a "):
            promote("--images=record.json", f"--to={crane.host}/prod/damaged")


def test_the_policy_holds_for_the_target(tmp_path: Path, crane: Registry, docker: Registry) -> None:
    push(tmp_path, f"{crane.host}/dev/policy")
    Path("mfbazel.toml").write_text('[allowed]\nregistries = ["registry.example.com"]\n')
    with pytest.raises(PolicyError, match=r"prod/policy: not in .allowed. registries"):
        promote(f"--to={docker.host}/prod/policy")


def test_the_policy_that_a_record_brings_along_holds_as_well(tmp_path: Path, crane: Registry, docker: Registry) -> None:
    flow = push(tmp_path, f"{crane.host}/dev/brought")
    content = json.loads(flow.record.read_text())
    content["policy"] = {"refused": {"registries": [docker.host]}}
    Path("record.json").write_text(json.dumps(content))
    with pytest.raises(PolicyError, match=r"refused by .refused. registries"):
        promote("--images=record.json", f"--to={docker.host}/prod/brought")


COSIGN = "application/vnd.dev.sigstore.bundle.v0.3+json"


@pytest.mark.parametrize("signature", ["referrer", "tag"])
def test_what_must_be_signed_is_promoted_with_its_signature_alone(
    tmp_path: Path, crane: Registry, docker: Registry, signature: str
) -> None:
    flow = push(tmp_path, f"{crane.host}/dev/signed-{signature}")
    client = Client(crane.host)
    content = json.loads(flow.record.read_text())
    for step, digest in flow.digests.items():
        content["steps"][step] |= {"signed_by": "cosign", "attached": ["spdx", "provenance"], "lock": "0" * 16}
        tag = digest.replace(":", "-") + ".sig" if signature == "tag" else ""
        attach(client, flow.path, digest, COSIGN, step.encode(), tag=tag)
    attach(client, flow.path, flow.digests["start"], SBOM, b"sbom")
    flow.record.write_text(json.dumps(content))
    Path("mfbazel.toml").write_text(f'[signing]\nrequired = ["{docker.host}/prod"]\n')
    to = f"--to={docker.host}/prod/signed-{signature}"
    with pytest.raises(PolicyError, match=r"the image of the step 'start' in .*, unsigned.*\n.*\nPush them so, and"):
        promote(to, "--no-referrers")
    assert promote(to, "--output=promoted.json") == 0
    steps = json.loads(Path("promoted.json").read_text())["steps"]
    said = {step: (entry.get("signed_by"), entry.get("attached")) for step, entry in steps.items()}
    assert said == {"start": ("cosign", ["spdx"]), "train": ("cosign", None)}  # what the source had


def test_the_map_of_a_build_says_of_no_image_where_it_is(tmp_path: Path) -> None:
    images = write_images_json(tmp_path / "images.json", {"start": f"sha256:{'0' * 64}"}, "r.example.com/x", LABEL)
    with pytest.raises(PushError, match=r"does not say where the images of start are.*--output.*oci://"):
        promote(f"--images={images}", "--to=registry.example.com/x")


def test_without_a_record_it_is_said_where_one_comes_from() -> None:
    with pytest.raises(PushError, match=rf"{LABEL} was not pushed from here.*bazel run {LABEL}.push"):
        promote("--to=registry.example.com/x")


def test_a_flow_without_a_label_is_refused_before_anything_is_changed(tmp_path: Path, crane: Registry) -> None:
    pushed = push(tmp_path, f"{crane.host}/ml/unlabelled")
    content = json.loads(pushed.record.read_text())
    del content["label"]
    (tmp_path / "unlabelled.json").write_text(json.dumps(content))
    with pytest.raises(PushError, match="names no label"):
        main(["promote", f"--images={tmp_path}/unlabelled.json", f"--to={crane.host}/prod/unlabelled"])
    assert Client(crane.host).head_manifest("prod/unlabelled", "start-v1") is None


@pytest.mark.parametrize(
    "children",
    [
        [{"digest": "prod"}],
        [{"digest": "../../other/manifests/v1"}],
        [{"digest": None}],
        ["start-v1"],
        {"digest": "prod"},
        7,
    ],
)
def test_what_refers_to_an_image_sets_no_tag_of_the_target(tmp_path: Path, crane: Registry, children: Any) -> None:
    # Who may write to the source could let a promotion move tags where he may not write.
    pushed = push(tmp_path, f"{crane.host}/ml/hostile")
    client = Client(crane.host)
    client.put_manifest(pushed.path, "prod", client.get_manifest(pushed.path, pushed.digests["start"]).data)
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": children}
    hostile = json.dumps(index).encode()
    tag = f"{pushed.digests['start'].replace(':', '-')}.sig"
    proxy_rule = Reply(200, {"Content-Type": INDEX, "Docker-Content-Digest": digest_of(hostile)}, hostile)
    with FaultyProxy(crane.host) as proxy:
        source = proxied(pushed, proxy.host)
        named = f"/manifests/({re.escape(tag)}|{digest_of(hostile)})$"
        proxy.script(*(Fault(proxy_rule, method, named, times=0) for method in ("HEAD", "GET")))
        target = f"hostile/{digest_of(hostile)[7:17]}"
        with pytest.raises(PushError, match="names a manifest without a sha256 digest"):
            promote(f"--images={source}", f"--to={crane.host}/{target}")
    assert client.head_manifest(target, "prod") is None
    assert client.head_manifest(target, "start-v1") is None


def test_a_tag_of_the_record_that_names_no_image_of_it_is_an_error(tmp_path: Path, crane: Registry) -> None:
    pushed = push(tmp_path, f"{crane.host}/ml/tagged")
    content = json.loads(pushed.record.read_text())
    content["steps"]["start"]["tags"] = {"prod": digest_of(b"something else")}
    (tmp_path / "changed.json").write_text(json.dumps(content))
    with pytest.raises(PushError, match=r"the tag prod is to name sha256:[0-9a-f]*, which is no manifest of the image"):
        promote(f"--images={tmp_path}/changed.json", f"--to={crane.host}/prod/tagged")


def proxied(pushed: Pushed, host: str) -> Path:
    """Write a record that names the images behind a proxy."""
    file = pushed.root / "proxied.json"
    file.write_text(pushed.record.read_text().replace(pushed.host, host))
    return file
