"""Attaching documents and signatures in real registries: what is sent, what is listed, what is not repeated."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.push_rig import Proxy, find_crane, serve_registry
from mfbazel.registry import Client
from mfbazel.registry.client import INDEX
from mfbazel.registry.referrers import fallback_tag
from mfbazel.sign import Item, Marks, SignError, Signing, Target, UnsignedError, attach, load_signer, parse_document
from mfbazel.sign.documents import SPDX
from mfbazel.sign.referrers import list_referrers
from tests.registry.gate import Asked, Gate, Reply
from tests.sign.rig import ListingGate, cosign_keys, docker_registry, install_acme, push_image, spdx

PATH = "ml/churn"


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry") / "docker") as host:
        yield host


@pytest.fixture(params=["crane", "docker-registry"])
def fallback(request: pytest.FixtureRequest, tmp_path: Path, upstream: str) -> Iterator[Proxy]:
    """A registry without the referrers API, behind what counts."""
    if request.param == "crane":
        with serve_registry(find_crane(), tmp_path / "crane") as host, Proxy(host) as proxy:
            yield proxy
    else:
        with Proxy(upstream) as proxy:
            yield proxy


@pytest.fixture
def listing(upstream: str) -> Iterator[ListingGate]:
    """A registry with the referrers API."""
    gate = ListingGate(upstream)
    with gate:
        yield gate


class Notes:
    """A signer that remembers what it signed; it stands in for a program where that does not matter."""

    def __init__(self, options: Mapping[str, str], directory: Path) -> None:
        del options, directory
        self.signed: list[str] = []

    def sign(self, target: Target) -> None:
        self.signed.append(target.reference)

    def verify(self, target: Target) -> str:
        if target.reference not in self.signed:
            raise UnsignedError(f"{target.reference} is not signed.")
        return "the notes"


def notes() -> tuple[Signing, list[str]]:
    signer = Notes({}, Path())
    return Signing("notes", {}, signer), signer.signed


def with_sbom(client: Client, seed: str, packages: dict[str, str] | None = None, path: str = PATH) -> Item:
    subject = push_image(client, path, seed)
    return Item(f"the image {seed}", subject, (parse_document(spdx(subject.digest, packages)),))


def carried(client: Client, digest: str) -> Any:
    """Return the one document that a referrer carries, and the referrer."""
    manifest = json.loads(client.get_manifest(PATH, digest).data)
    return client.get_blob(PATH, manifest["layers"][0]["digest"]), manifest


def check_referrer(client: Client, item: Item) -> None:
    there = list_referrers(client, PATH, item.subject.digest)
    (entry,) = [entry for entry in there.descriptors if entry["artifactType"] == SPDX]
    data, manifest = carried(client, entry["digest"])
    assert data == item.documents[0].data
    assert manifest["artifactType"] == manifest["layers"][0]["mediaType"] == SPDX
    assert manifest["subject"] == {
        "digest": item.subject.digest,
        "mediaType": item.subject.media_type,
        "size": item.subject.size,
    }
    assert manifest["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"


def test_a_document_is_a_referrer_under_the_tag_of_a_registry_without_the_api(fallback: Proxy) -> None:
    client = Client(fallback.host)
    item = with_sbom(client, "tagged")
    assert attach(client, PATH, [item], None).attached == 1
    check_referrer(client, item)
    index = client.get_manifest(PATH, fallback_tag(item.subject.digest))
    assert index.media_type == "application/vnd.oci.image.index.v1+json"
    assert json.loads(index.data)["manifests"][0]["artifactType"] == SPDX


def test_a_document_is_a_referrer_that_a_registry_with_the_api_lists(listing: ListingGate) -> None:
    client = Client(listing.host)
    item = with_sbom(client, "listed")
    assert attach(client, PATH, [item], None).attached == 1
    check_referrer(client, item)
    assert client.head_manifest(PATH, fallback_tag(item.subject.digest)) is None


def test_what_is_attached_is_not_sent_again(fallback: Proxy) -> None:
    client = Client(fallback.host)
    item = with_sbom(client, "twice")
    attach(client, PATH, [item], None)
    fallback.take()
    assert attach(client, PATH, [item], None).attached == 0
    counts = fallback.take()
    assert [(verb, path.split("/")[-2]) for verb, path in counts.requests] == [
        ("GET", "referrers"),
        ("GET", "manifests"),
        ("HEAD", "manifests"),
    ]


@pytest.mark.parametrize("lie", ["gone", "of another type"])
def test_a_document_that_is_listed_and_cannot_be_found_is_attached_again(upstream: str, lie: str) -> None:
    """A registry that was cleaned up lacks what no tag names, and has the list; or somebody changed that."""
    with Gate(upstream) as gate:
        client = Client(gate.host)
        item = with_sbom(client, f"listed and {lie}")
        attach(client, PATH, [item], None)
        (entry,) = list_referrers(client, PATH, item.subject.digest).descriptors
        if lie == "gone":
            puts: list[str] = []

            def gone(asked: Asked) -> Reply | None:
                if not asked.path.endswith(entry["digest"]) or puts:
                    return None
                puts.extend([asked.path] if asked.method == "PUT" else [])
                return None if puts else Reply(404)

            gate.rule = gone
        else:
            index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{**entry, "artifactType": "application/x"}]}
            client.put_manifest(PATH, fallback_tag(item.subject.digest), json.dumps(index).encode(), INDEX)
        assert attach(client, PATH, [item], None).attached == 1
        assert attach(client, PATH, [item], None).attached == 0
        check_referrer(client, item)


def test_another_document_is_added_and_the_first_stays_listed(fallback: Proxy) -> None:
    client = Client(fallback.host)
    item = with_sbom(client, "two documents")
    attach(client, PATH, [item], None)
    other = parse_document(spdx(item.subject.digest, {"six": "1.0"}))
    attach(client, PATH, [Item(item.name, item.subject, (*item.documents, other))], None)
    there = list_referrers(client, PATH, item.subject.digest)
    assert {carried(client, digest)[0] for digest in there.digests} == {item.documents[0].data, other.data}


def test_documents_are_signed_before_their_image(fallback: Proxy) -> None:
    client = Client(fallback.host)
    item = with_sbom(client, "order")
    signing, signed = notes()
    outcome = attach(client, PATH, [item], signing)
    (sbom,) = list_referrers(client, PATH, item.subject.digest).digests
    assert signed == [f"{fallback.host}/{PATH}@{digest}" for digest in (sbom, item.subject.digest)]
    assert (outcome.attached, outcome.signed) == (1, 2)


def test_a_mark_saves_every_request_unless_the_image_was_gone(fallback: Proxy, tmp_path: Path) -> None:
    client = Client(fallback.host)
    item = with_sbom(client, "marked")
    signing, signed = notes()

    def push(present: bool) -> int:
        marks = Marks(tmp_path / "signed.json")
        outcome = attach(client, PATH, [item], signing, marks, {item.subject.digest} if present else ())
        marks.write()
        fallback_requests = len(fallback.take().requests)
        assert outcome.attached == 0 or not present
        return fallback_requests

    assert push(present=False) > 0
    assert push(present=True) == 0
    assert len(signed) == 2
    assert push(present=False) > 0


def test_a_damaged_file_of_marks_counts_as_none(fallback: Proxy, tmp_path: Path) -> None:
    client = Client(fallback.host)
    item = with_sbom(client, "damaged marks")
    (tmp_path / "signed.json").write_text('{"schema": 1, "done": [')
    assert attach(client, PATH, [item], None, Marks(tmp_path / "signed.json"), {item.subject.digest}).attached == 1


def test_an_image_that_could_not_be_signed_is_named_and_tried_again(fallback: Proxy, tmp_path: Path) -> None:
    class Refuses(Notes):
        def sign(self, target: Target) -> None:
            raise SignError(f"the key service says no to {target.reference[:3]}.")

    client = Client(fallback.host)
    item = with_sbom(client, "refused")
    marks = Marks(tmp_path / "signed.json")
    with pytest.raises(SignError, match=r"the image refused is in the registry, but not all of it is signed: the key"):
        attach(client, PATH, [item], Signing("refuses", {}, Refuses({}, Path())), marks)
    marks.write()
    signing, signed = notes()
    attach(client, PATH, [item], signing, Marks(tmp_path / "signed.json"), {item.subject.digest})
    assert len(signed) == 2


def test_a_push_without_marks_signs_nothing_that_the_signer_accepts(
    fallback: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COSIGN_PASSWORD", "")
    client = Client(fallback.host)
    item = with_sbom(client, "again")
    signing = load_signer("cosign", cosign_keys(tmp_path / "keys").options, tmp_path)
    assert attach(client, PATH, [item], signing).signed == 2
    before = client.get_manifest(PATH, fallback_tag(item.subject.digest)).data
    assert attach(client, PATH, [item], signing, present={item.subject.digest}).signed == 0
    assert client.get_manifest(PATH, fallback_tag(item.subject.digest)).data == before
    # cosign's own entry in the list stays beside ours.
    assert len(json.loads(before)["manifests"]) == 2


def test_a_signer_of_a_team_is_found_by_its_entry_point(
    fallback: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_acme(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("ACME_KEY", "a secret of the team")
    signing = load_signer("acme", {"key": "ACME_KEY"}, tmp_path)
    client = Client(fallback.host)
    item = with_sbom(client, "by a plug-in")
    assert attach(client, PATH, [item], signing).signed == 2
    assert attach(client, PATH, [item], signing, present={item.subject.digest}).signed == 0
    other = push_image(client, PATH, "by nobody")
    with pytest.raises(UnsignedError, match="not signed"):
        signing.signer.verify(Target(f"{fallback.host}/{PATH}@{other.digest}", plain_http=True))
    with pytest.raises(SignError, match="there are acme, cosign, notation"):
        load_signer("acne", {}, tmp_path)


def test_a_plug_in_that_cannot_be_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[mfbazel.signers]\nbroken = no_such_module:Signer\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SignError, match=r"'broken' cannot be loaded: its entry point no_such_module:Signer"):
        load_signer("broken", {}, tmp_path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "it is not JSON"),
        (b"[]", "no SPDX or CycloneDX document"),
        (b'{"name": "x"}', "no SPDX or CycloneDX document"),
        (b'{"spdxVersion": "SPDX-2.3"}', "does not say which image"),
        (b'{"bomFormat": "CycloneDX", "metadata": {}}', "does not say which image"),
        (b'{"_type": "https://in-toto.io/Statement/v1", "subject": []}', "does not say which image"),
    ],
)
def test_what_is_no_document_about_an_image_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_document(data)
