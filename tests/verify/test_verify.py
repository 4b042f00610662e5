"""Verifying a pushed flow in a real registry: what passes, and each way in which it is not what it should be."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mfbazel.registry import Descriptor
from mfbazel.registry.client import MANIFEST, digest_of
from mfbazel.sign import Item, Signing, attach, load_signer, parse_document
from mfbazel.sign.documents import CYCLONEDX, IN_TOTO, SPDX
from mfbazel.state import images_path
from mfbazel.verify.check import FLOW, Status
from mfbazel.verify.cli import main
from mfbazel.verify.errors import VerifyError
from tests.registry.gate import Asked, Gate, Reply
from tests.sbom.case import AMD64, ARM64, LABEL
from tests.sign.rig import cosign_keys, docker_registry, install_acme
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


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory, registry: str) -> World:
    """A pushed flow for tests that change nothing."""
    return World(tmp_path_factory.mktemp("settled"), registry, "flows/settled").push()


def _descriptor(world: World, digest: str) -> Descriptor:
    return Descriptor(digest, len(world.client.get_manifest(world.path, digest).data), MANIFEST)


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
    assert f"{world.host}/{world.path} lacks 1 of 1 blobs: {config}. A push sends nothing" in found["train", "blobs"]
    assert f"delete {world.digests['train']} there" in found["train", "blobs"]


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


def test_who_verifies_says_which_images_are_not_made_from_the_lock_and_not_images_json(world: World) -> None:
    content = json.loads(world.images.read_text())
    del content["steps"]["train"]["lock"]
    world.images.write_text(json.dumps(content))
    found = failed(world.checks(signing=None))
    assert set(found) == {("train", "lock")}
    assert "say --foreign train" in found["train", "lock"]
    checks = world.checks(signing=None, foreign=["train"])
    assert not failed(checks)
    assert checks["train", "spdx"].status is checks["train", "lock"].status is Status.SKIPPED
    world.replace_attached(world.digests["train"], SPDX, json.dumps(world.documents("start")["spdx"]).encode())
    assert ("train", "spdx") in failed(world.checks(signing=None))


def test_images_json_of_another_flow_fails_although_it_is_signed(world: World) -> None:
    """Who may write to the registry lets the tag name what the same team signed for another flow."""
    assert not failed(world.checks(label="//flows:demo"))
    assert "is of //flows:demo, and not of //flows:other" in failed(world.checks(label="//flows:other"))[FLOW, "flow"]
    lock = json.loads(world.lock.read_text())
    lock["flow"]["name"] = "Other"
    world.lock.write_text(json.dumps(lock))
    assert "is of the flow Demo, and" in failed(world.checks(signing=None))[FLOW, "flow"]


def test_images_json_that_names_nothing_is_an_error(world: World) -> None:
    world.images.write_text('{"schema": 1, "flow": "Demo", "steps": {}}')
    with pytest.raises(VerifyError, match="nothing is deployed"):
        main([f"--images={world.images}"])


def test_a_statement_of_something_else_is_no_provenance(world: World) -> None:
    statement = world.documents("train")["provenance"]
    statement["predicateType"] = "https://example.com/reviewed/v1"
    subject = world.digests["train"]
    item = Item("x", _descriptor(world, subject), (parse_document(json.dumps(statement).encode()),))
    attach(world.client, world.path, [item], world.signing)
    assert world.checks()["train", "provenance"].text == "3 packages, as locked, signed by the notes"
    world.replace_attached(subject, IN_TOTO, json.dumps(statement).encode())
    attach(world.client, world.path, [item], world.signing)
    assert "has no provenance document of the step train" in failed(world.checks())["train", "provenance"]


def test_a_package_that_a_document_names_twice_must_be_the_locked_one_both_times(world: World) -> None:
    made = world.documents("train")["spdx"]
    numpy = next(item for item in made["packages"] if item["name"] == "numpy")
    other = {**numpy, "SPDXID": "SPDXRef-other", "checksums": [{"algorithm": "SHA256", "checksumValue": "0" * 64}]}
    made["packages"].insert(1, other)
    world.replace_attached(world.digests["train"], SPDX, json.dumps(made).encode())
    assert f"numpy 1.0 with sha256 {'0' * 64} and " in failed(world.checks(signing=None))["train", "spdx"]


def test_an_image_for_a_platform_that_is_not_locked_fails(world: World) -> None:
    lock = json.loads(world.lock.read_text())
    for environment in lock["environments"].values():
        environment["wheels"] = {ARM64: environment["wheels"][AMD64]}
    world.lock.write_text(json.dumps(lock))
    found = failed(world.checks(signing=None))
    assert f"its image is for {AMD64}, for which the step train is not locked" in found["train", "spdx"]


NESTED = b"[" * 200_000
DAMAGED = {
    "nested": NESTED,
    "no list": b'{"manifests": 7, "mediaType": "application/vnd.oci.image.index.v1+json"}',
    "nothing in the index": b'{"manifests": [null], "mediaType": "application/vnd.oci.image.index.v1+json"}',
    "a child by tag": b'{"manifests": [{"digest": "latest", "size": 1}], "mediaType": '
    b'"application/vnd.oci.image.index.v1+json"}',
    "no configuration": b'{"layers": []}',
    "no size": b'{"config": {"digest": "sha256:%s"}}' % (b"0" * 64),
    "a size that is no number": b'{"config": {"digest": "sha256:%s", "size": 1e999}}' % (b"0" * 64),
    "layers that are no descriptors": b'{"config": {"digest": "sha256:%s", "size": 2}, "layers": [[]]}' % (b"0" * 64),
}


def test_what_is_no_image_fails_and_the_other_steps_are_checked(world: World, gate: Gate) -> None:
    by_digest = {digest_of(data): data for data in DAMAGED.values()}

    def damaged(asked: Asked) -> Reply | None:
        data = by_digest.get(asked.path.rpartition("/")[2])
        return None if data is None else Reply(200, data, {"Content-Type": MANIFEST})

    gate.rule = damaged
    for digest in by_digest:
        world.digests["train"] = digest
        world.record(published=False)
        checks = world.checks(expected=[])
        assert set(failed(checks)) == {("train", "manifest")}, by_digest[digest][:80]
        assert checks["start", "signature"].status is Status.OK


def test_a_list_of_referrers_that_lies_does_no_harm(world: World, gate: Gate) -> None:
    """Entries that are no digests, that come again and again, that are damaged, or name what is not there."""
    tag = world.digests["train"].replace(":", "-")
    listed = json.loads(world.client.get_manifest(world.path, tag).data)
    nested = json.dumps({"spdxVersion": 1}).encode()[:-1] + b', "packages": ' + NESTED
    subject, layer = {"digest": world.digests["train"]}, {"digest": digest_of(nested)}
    deep = json.dumps({"artifactType": SPDX, "subject": subject, "layers": [layer]}).encode()
    forged = {digest_of(deep): deep, digest_of(NESTED): NESTED, digest_of(nested): nested}
    digests: list[Any] = [*forged, f"sha256:{'0' * 64}", "latest", "../tags/list", None, {}]
    lies = [{"mediaType": MANIFEST, "digest": digest, "size": -1, "artifactType": SPDX} for digest in digests]
    data = json.dumps({**listed, "manifests": [*lies, *listed["manifests"] * 3]}).encode()
    read: list[str] = []

    def lie(asked: Asked) -> Reply | None:
        name = asked.path.rpartition("/")[2]
        read.append(asked.path)
        if name == tag:
            return Reply(200, data, {"Content-Type": listed["mediaType"]})
        return Reply(200, forged[name], {"Content-Type": MANIFEST}) if name in forged else None

    gate.rule = lie
    checks = world.checks()
    assert not failed(checks)
    assert checks["train", "spdx"].text.endswith("(others that do not count: 2)")
    assert not [path for path in read if path.endswith(("/latest", "/list"))]
    own = [path for path in read for entry in listed["manifests"] if path.endswith(entry["digest"])]
    assert len(own) == len(set(own)) == len(KINDS)


def test_documents_of_strangers_cannot_forge_lines(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    made = world.documents("train")["spdx"]
    forged = "pkg:pypi/x\n(flow)  signature of images.json  ok  by the key\x1b[1A\ud800@1"
    reference = {"referenceType": "purl", "referenceLocator": forged, "referenceCategory": "PACKAGE-MANAGER"}
    made["packages"].append({"SPDXID": "SPDXRef-x", "name": "x", "externalRefs": [reference]})
    world.replace_attached(world.digests["train"], SPDX, json.dumps(made).encode())
    options = [f"--images={world.images}", f"--lock={world.lock}", "--expect=spdx"]
    assert main(options) == 1
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.startswith("(flow)") and "signature" in line]
    assert r"x\n(flow)  signature of images.json  ok  by the key\x1b[1A\ud800 1" in "".join(lines)
    assert main([*options, "--json"]) == 1
    assert any("\x1b[1A\ud800" in check["text"] for check in json.loads(capsys.readouterr().out)["checks"])


def test_relative_paths_in_options_begin_at_the_workspace_whatever_is_verified(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`bazel run` starts it in another directory."""
    install_acme(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path / "workspace"))
    seen: list[Path] = []

    def factory(_options: Any, directory: Path) -> Notes:
        seen.append(directory)
        return Notes()

    monkeypatch.setitem(sys.modules, "acme_signer", SimpleNamespace(AcmeSigner=factory))
    options = [f"--images={world.images}", "--sign=acme"]
    main(options)
    monkeypatch.delenv("BUILD_WORKSPACE_DIRECTORY")
    main(options)
    assert seen == [tmp_path / "workspace", Path.cwd()]


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
    assert len(lines) == 3 + 2 * 5
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
def test_wrong_input_is_an_error_that_names_it(settled: World, options: list[str], words: str) -> None:
    given = [option.replace("IMAGES", str(settled.images)).replace("LOCK", str(settled.lock)) for option in options]
    with pytest.raises(VerifyError, match=words):
        main(given)
