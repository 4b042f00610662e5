"""Verifying a pushed flow in a real registry: what passes, and each way in which it is not what it should be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mfbazel.registry import Descriptor
from mfbazel.registry.client import MANIFEST, digest_of
from mfbazel.sign import Item, Signing, attach, load_signer, parse_document
from mfbazel.sign.documents import CYCLONEDX, SPDX
from mfbazel.state import images_path
from mfbazel.verify.check import FLOW, Status
from mfbazel.verify.cli import main
from mfbazel.verify.errors import VerifyError
from tests.registry.gate import Asked, Gate, Reply
from tests.sbom.case import AMD64, ARM64, LABEL
from tests.sign.rig import cosign_keys, docker_registry
from tests.verify.world import KINDS, Notes, World, failed


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("verify") / "registry") as host:
        yield host


@pytest.fixture
def gate(registry: str) -> Iterator[Gate]:
    with Gate(registry) as before:
        yield before


@pytest.fixture
def world(tmp_path: Path, gate: Gate) -> World:
    """A pushed flow, in a repository of its own."""
    return World(tmp_path, gate.host, f"flows/{digest_of(str(tmp_path).encode())[7:19]}").push()


def test_a_pushed_flow_passes_every_check(world: World) -> None:
    checks = world.checks()
    assert not failed(checks)
    assert {check.status for check in checks.values()} == {Status.OK}
    steps = {name for step, name in checks if step == "train"}
    assert steps == {"manifest", "blobs", "signature", "lock", *KINDS}
    assert checks["train", "spdx"].text == "3 packages, as locked, signed by the notes"
    assert checks["start", "provenance"].text == "1 packages, as locked, signed by the notes"
    assert (FLOW, "signature of images.json") in checks


def test_images_of_several_platforms_have_an_sbom_each(tmp_path: Path, gate: Gate) -> None:
    world = World(tmp_path, gate.host, "flows/platforms", (AMD64, ARM64)).push()
    assert not failed(world.checks())
    index = json.loads(world.client.get_manifest(world.path, world.digests["train"]).data)
    arm = next(item["digest"] for item in index["manifests"] if item["platform"]["architecture"] == "arm64")
    empty = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}
    world.client.put_manifest(world.path, arm.replace(":", "-"), json.dumps(empty).encode(), str(empty["mediaType"]))
    found = failed(world.checks())
    assert set(found) == {("train", "spdx"), ("train", "cyclonedx")}
    assert f"{gate.host}/flows/platforms@{arm} has no SPDX document of the step train" in found["train", "spdx"]


def test_an_unsigned_image_fails(world: World) -> None:
    found = failed(world.checks(signing=Signing("notes", {}, Notes())))
    assert f"{world.host}/{world.path}@{world.digests['train']} is not signed" in found["train", "signature"]
    assert "is not signed" in found["start", "provenance"]
    assert "is not signed" in found[FLOW, "signature of images.json"]


@pytest.mark.parametrize("kind", ["spdx", "cyclonedx"])
def test_an_sbom_that_was_tampered_with_fails(world: World, kind: str) -> None:
    """It belongs to the image and is well made, and leaves out a package; nobody signed it."""
    made = world.documents("train")
    members = {"spdx": "packages", "cyclonedx": "components"}
    document = made[kind]
    document[members[kind]] = [item for item in document[members[kind]] if item["name"] != "numpy"]
    world.replace_attached(
        world.digests["train"], {"spdx": SPDX, "cyclonedx": CYCLONEDX}[kind], json.dumps(document).encode()
    )
    found = failed(world.checks())
    assert set(found) == {("train", kind)}
    assert "it does not agree with the lock of the step train: it lacks numpy 1.0" in found["train", kind]
    unlocked = failed(world.checks(locked=None))
    assert "is not signed" in unlocked["train", kind]


def test_an_sbom_of_another_image_fails(world: World) -> None:
    other = world.documents("start")["spdx"]
    other["packages"][0]["checksums"][0]["checksumValue"] = world.digests["train"].removeprefix("sha256:")
    world.replace_attached(world.digests["train"], SPDX, json.dumps(other).encode())
    assert "it lacks numpy 1.0, pandas 1.0" in failed(world.checks(signing=None))["train", "spdx"]


def test_a_document_that_is_about_another_image_does_not_count(world: World) -> None:
    other = world.documents("start")["spdx"]
    world.replace_attached(world.digests["train"], SPDX, json.dumps(other).encode())
    assert f"it is about {world.digests['start']}" in failed(world.checks(signing=None))["train", "spdx"]


def test_a_document_beside_the_one_that_counts_does_no_harm(world: World) -> None:
    made = world.documents("train")
    made["spdx"]["packages"].pop()
    digest = world.digests["train"]
    size = len(world.client.get_manifest(world.path, digest).data)
    item = Item("more", Descriptor(digest, size, MANIFEST), (parse_document(json.dumps(made["spdx"]).encode()),))
    attach(world.client, world.path, [item], None)
    assert world.checks()["train", "spdx"].text.endswith("(others that do not count: 1)")


def test_a_missing_manifest_fails_and_the_other_steps_are_checked(world: World) -> None:
    world.digests["train"] = f"sha256:{'0' * 64}"
    world.record()
    checks = world.checks()
    assert set(failed(checks)) == {("train", "manifest")}
    assert "Push it" in checks["train", "manifest"].text
    assert checks["start", "signature"].status is Status.OK


def test_a_manifest_with_other_bytes_fails(world: World, gate: Gate) -> None:
    def other(asked: Asked) -> Reply | None:
        if asked.method == "GET" and asked.path.endswith(f"manifests/{world.digests['train']}"):
            return Reply(
                200,
                b'{"schemaVersion": 2, "layers": []}',
                {"Content-Type": "application/vnd.oci.image.manifest.v1+json"},
            )
        return None

    gate.rule = other
    found = failed(world.checks())
    assert "other bytes" in found["train", "manifest"]


def test_a_missing_blob_fails(world: World, gate: Gate) -> None:
    config = json.loads(world.client.get_manifest(world.path, world.digests["train"]).data)["config"]["digest"]
    gate.rule = lambda asked: Reply(404) if asked.method == "HEAD" and asked.path.endswith(config) else None
    found = failed(world.checks())
    assert f"{world.host}/{world.path} lacks 1 of 1 blobs: {config}. Push the flow again." == found["train", "blobs"]


def test_a_blob_with_other_bytes_fails_when_blobs_are_read(world: World, gate: Gate) -> None:
    content = json.loads(world.client.get_manifest(world.path, world.digests["train"]).data)["config"]
    assert not failed(world.checks())
    reads = 0

    def other(asked: Asked) -> Reply | None:
        nonlocal reads
        if asked.method != "GET" or not asked.path.endswith(content["digest"]):
            return None
        reads += 1  # the first time it is read for the platform that it names
        return Reply(200, b"x" * content["size"]) if reads > 1 else None

    gate.rule = other
    found = failed(world.checks(blobs=True))
    assert any("digest mismatch" in told for (_, check), told in found.items() if check == "blobs")  # steps share it


def test_what_is_locked_now_is_compared_with_what_is_deployed(world: World) -> None:
    lock = json.loads(world.lock.read_text())
    lock["environments"]["train"]["wheels"][AMD64].pop()
    lock["flow"]["steps"].append({"name": "end", "environment": "start"})
    world.lock.write_text(json.dumps(lock))
    found = failed(world.checks())
    assert "made from other packages" in found["train", "lock"]
    assert "it lacks end" in found[FLOW, "steps"]
    assert "it has " in found["train", "spdx"]
    assert ("start", "lock") not in found


def test_what_is_built_here_is_compared_with_what_is_deployed(world: World) -> None:
    built = {"start": world.digests["start"], "train": f"sha256:{'1' * 64}"}
    found = failed(world.checks(built=built))
    assert set(found) == {("train", "build")}
    assert "is built here" in found["train", "build"]


def test_steps_without_a_lock_need_no_documents(world: World) -> None:
    content = json.loads(world.images.read_text())
    del content["steps"]["train"]["lock"]
    world.images.write_text(json.dumps(content))
    checks = world.checks(signing=None)
    assert not failed(checks)
    assert checks["train", "spdx"].status is checks["train", "lock"].status is Status.SKIPPED


def test_what_was_not_attached_is_missed(tmp_path: Path, gate: Gate) -> None:
    world = World(tmp_path, gate.host, "flows/unattached").push(kinds=["spdx"])
    found = failed(world.checks())
    assert set(found) == {(step, kind) for step in ("start", "train") for kind in ("cyclonedx", "provenance")}
    assert "Push the flow with the attribute `attach`" in found["train", "provenance"]
    assert not failed(world.checks(expected=["spdx"]))


def test_the_artifact_of_images_json_is_read_and_its_signature_checked(world: World) -> None:
    source = f"oci://{world.host}/{world.path}:demo.images"
    checks = world.checks(source)
    assert not failed(checks)
    # Somebody lets the tag name a map of other images.
    world.digests["train"] = world.digests["start"]
    signer, world.signing = world.signing, Signing("notes", {}, Notes())
    world.record()
    world.signing = signer
    assert set(failed(world.checks(source))) >= {(FLOW, "signature of images.json")}


def test_a_registry_that_is_gone_is_a_failure_of_every_step(world: World) -> None:
    text = world.images.read_text().replace(world.host, "127.0.0.1:1")
    world.images.write_text(text)
    found = failed(world.checks())
    assert {("start", "manifest"), ("train", "manifest")} <= set(found)
    assert "cannot be reached" in found["train", "manifest"]


def test_the_command_line_checks_with_cosign_without_bazel(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key pair, the published artifact and the lock are all that it needs."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COSIGN_PASSWORD", "")
    keys, strangers = cosign_keys(tmp_path / "keys"), cosign_keys(tmp_path / "strangers")
    signing = load_signer("cosign", keys.options, tmp_path)
    world = World(tmp_path / "flow", gate.host, "flows/cosign", signing=signing)
    world.directory.mkdir(exist_ok=True)
    world.push(kinds=["spdx"])
    shutil.copy(keys.public, tmp_path / "team.pub")
    monkeypatch.chdir(tmp_path)
    options = [f"--images=oci://{gate.host}/flows/cosign:demo.images", f"--lock={world.lock}", "--expect=spdx"]
    options += ["--sign=cosign", "--sign-option=public_key=team.pub", "--sign-option=transparency_log=false"]
    assert main([*options, "--blobs"]) == 0
    out = capsys.readouterr()
    assert "0 failed, 0 skipped" in out.err
    lines = out.out.splitlines()
    assert len(lines) == 2 + 2 * 5
    assert any(line.startswith("train") and "signature" in line and "ok" in line for line in lines)
    shutil.copy(strangers.public, tmp_path / "team.pub")
    assert main([*options, "--json", "--step=train"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert {item["check"] for item in report["checks"] if item["status"] == "failed"} == {
        "signature",
        "signature of images.json",
        "spdx",
    }
    assert not any(item["step"] == "start" for item in report["checks"])


def test_the_record_of_the_last_push_is_read(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MFBAZEL_STATE_DIR", str(world.directory / "state"))
    options = [f"--label={LABEL}", f"--workspace={world.directory}", f"--lock={world.lock}"]
    with pytest.raises(VerifyError, match=r"cannot be read: No such file or directory\. Push the flow"):
        main(options)
    record = images_path(world.directory, LABEL)
    record.parent.mkdir(parents=True)
    shutil.copy(world.images, record)
    assert main(options) == 0
    assert "no signer is named" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "name what is deployed"),
        (["--images=IMAGES", "--step=tran"], "has no such step; it has start, train"),
        (["--images=IMAGES", "--includes=a=b"], "give it with --lock"),
        (["--images=LOCK"], "names|no image by digest|is no images.json"),
        (["--images=IMAGES", "--lock=IMAGES"], "is no lock of a flow"),
        (["--images=IMAGES", "--built=LOCK"], "no images.json of a build"),
    ],
)
def test_wrong_input_is_an_error_that_names_it(world: World, options: list[str], words: str) -> None:
    given = [option.replace("IMAGES", str(world.images)).replace("LOCK", str(world.lock)) for option in options]
    with pytest.raises(VerifyError, match=words):
        main(given)
