"""Manifests and blobs: what is asked, verified, tried again and refused."""

from __future__ import annotations

import email.utils
import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from bench.push_rig import free_port
from mfbazel.registry import Client, Kind, RegistryError
from mfbazel.registry.client import MANIFEST, digest_of
from tests.registry.gate import EMPTY, IMAGE, Asked, Gate, Reply, basic, gate_before_a_registry, without_credentials

DIGEST = digest_of(IMAGE)


@pytest.fixture(autouse=True)
def nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_credentials(tmp_path, monkeypatch)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A registry that has :data:`IMAGE` as ``ml/x:v1``, and has been asked nothing."""
    with gate_before_a_registry(tmp_path / "disk") as made:
        client = Client(made.host)
        client.put_blob("ml/x", EMPTY)
        assert client.put_manifest("ml/x", "v1", IMAGE) == DIGEST
        made.asked.clear()
        yield made


def _failure(client: Client, name: str = "v1") -> RegistryError:
    with pytest.raises(RegistryError) as caught:
        client.get_manifest("ml/x", name)
    return caught.value


def test_manifests_and_blobs_come_back_as_they_were_sent(gate: Gate) -> None:
    client = Client(gate.host)
    found = client.head_manifest("ml/x", "v1")
    assert found and (found.digest, found.size, found.media_type) == (DIGEST, len(IMAGE), MANIFEST)
    assert client.get_manifest("ml/x", DIGEST).data == IMAGE
    assert client.get_blob("ml/x", digest_of(EMPTY)) == EMPTY
    assert client.head_manifest("ml/x", "v2") is None
    assert not client.head_blob("ml/x", digest_of(b"other"))


def test_a_blob_that_is_there_is_not_sent_again(gate: Gate) -> None:
    assert not Client(gate.host).put_blob("ml/x", EMPTY)
    assert gate.count("POST") == gate.count("PUT") == 0


def test_other_bytes_than_the_digest_says_are_refused(gate: Gate) -> None:
    gate.rule = lambda asked: Reply(200, b'{"other": 1}') if asked.path != "/v2/" else None
    client = Client(gate.host)
    assert _failure(client, DIGEST).problem.kind is Kind.DIGEST
    with pytest.raises(RegistryError, match=f"digest mismatch: sha256:[0-9a-f]* instead of {digest_of(EMPTY)}"):
        client.get_blob("ml/x", digest_of(EMPTY))


def test_a_digest_that_the_registry_says_is_compared_too(gate: Gate) -> None:
    wrong = {"Docker-Content-Digest": digest_of(b"wrong")}
    gate.rule = lambda asked: Reply(201 if asked.method == "PUT" else 200, IMAGE, wrong)
    client = Client(gate.host)
    assert _failure(client).problem.kind is Kind.DIGEST
    with pytest.raises(RegistryError, match="digest mismatch"):
        client.head_manifest("ml/x", DIGEST)
    with pytest.raises(RegistryError, match="digest mismatch"):
        client.put_manifest("ml/x", "v1", IMAGE)


def test_a_registry_that_does_not_say_the_digest_of_a_tag_is_asked_for_the_manifest(gate: Gate) -> None:
    gate.rule = lambda asked: Reply(200, IMAGE) if "manifests" in asked.path else None
    found = Client(gate.host).head_manifest("ml/x", "v1")
    assert found and found.digest == DIGEST


def test_an_answer_larger_than_expected_is_not_read_to_its_end(gate: Gate) -> None:
    with pytest.raises(RegistryError, match="more than 1 bytes"):
        Client(gate.host).get_blob("ml/x", digest_of(EMPTY), limit=1)


def test_what_is_missing_is_named(gate: Gate) -> None:
    failure = _failure(Client(gate.host), "v2")
    assert failure.problem.kind is Kind.MISSING
    assert str(failure).startswith(f"the registry {gate.host} does not have {gate.host}/ml/x:v2 (404), while reading")
    assert "404 MANIFEST_UNKNOWN" in str(failure)


@pytest.mark.parametrize(
    ("status", "code", "kind", "expected"),
    [
        (403, "DENIED", Kind.DENIED, "does not let you push to 127.0.0.1"),
        (404, "NAME_UNKNOWN", Kind.NO_REPOSITORY, "has no repository"),
        (400, "NAME_INVALID", Kind.NAME, "does not accept the name"),
        (400, "DIGEST_INVALID", Kind.DIGEST, "other bytes"),
        (400, "UNSUPPORTED", Kind.REFUSED, "refused a request about"),
        (405, "UNSUPPORTED", Kind.READ_ONLY, "takes no uploads"),
        (413, "SIZE_INVALID", Kind.TOO_LARGE, "refuses uploads of this size"),
        (501, "", Kind.FAILED, "failed while it answered"),
        (302, "", Kind.MALFORMED, "does not answer as the OCI distribution specification says"),
    ],
)
def test_a_refusal_is_explained_in_the_registry_s_words_too(
    gate: Gate, status: int, code: str, kind: Kind, expected: str
) -> None:
    body = json.dumps({"errors": [{"code": code, "message": "because\nof https://me:s3cret@host/"}]}).encode()
    gate.rule = lambda asked: Reply(status, body) if asked.method == "PUT" else None
    with pytest.raises(RegistryError) as caught:
        Client(gate.host).put_manifest("ml/x", "v3", IMAGE)
    assert caught.value.problem.kind is kind
    text = str(caught.value)
    assert expected in text
    assert f"{status} {code}: because of https://***@host/" in text if code else f"{status}: because" in text


def test_what_passes_is_tried_again(gate: Gate) -> None:
    replies = [Reply(503), Reply(429, headers={"Retry-After": "1"})]
    gate.rule = lambda asked: replies.pop(0) if "manifests" in asked.path and replies else None
    began = time.monotonic()
    assert Client(gate.host).get_manifest("ml/x", "v1").data == IMAGE
    assert 1 <= time.monotonic() - began < 20
    assert gate.count("GET", "manifests") == 3


@pytest.mark.parametrize("date", [False, True])
def test_a_registry_that_asks_to_wait_longer_than_the_limit_is_not_waited_for(gate: Gate, date: bool) -> None:
    wait = email.utils.formatdate(time.time() + 120, usegmt=True) if date else "120"
    gate.rule = lambda asked: Reply(429, headers={"Retry-After": wait}) if "manifests" in asked.path else None
    began = time.monotonic()
    failure = _failure(Client(gate.host, timeout=60))
    assert time.monotonic() - began < 20
    assert failure.problem.kind is Kind.RATE
    assert "it asks to wait 1" in str(failure)


def test_a_registry_that_keeps_failing_is_tried_a_few_times(gate: Gate) -> None:
    gate.rule = lambda asked: Reply(502) if "manifests" in asked.path else None
    assert _failure(Client(gate.host)).problem.kind is Kind.FAILED
    assert gate.count("GET", "manifests") == 4


def test_a_registry_that_never_answers_is_given_up_after_the_limit(gate: Gate) -> None:
    gate.rule = lambda asked: Reply(200, pause=30) if "manifests" in asked.path else None
    began = time.monotonic()
    failure = _failure(Client(gate.host, timeout=0.5))
    assert time.monotonic() - began < 20
    assert failure.problem.kind is Kind.TIMEOUT
    assert "no answer within 0.5 s" in str(failure)


def test_a_registry_that_does_not_run_is_unreachable() -> None:
    failure = _failure(Client(f"127.0.0.1:{free_port()}"))
    assert failure.problem.kind is Kind.UNREACHABLE
    assert "(Connection refused)" in str(failure)


def test_a_redirect_to_a_storage_carries_no_credentials(tmp_path: Path, gate: Gate) -> None:
    config = tmp_path / "home" / ".docker" / "config.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({"auths": {gate.host: {"username": "me", "password": "s3cret"}}}))
    allowed = basic("me", "s3cret")
    with Gate() as storage:
        storage.rule = lambda _: Reply(200, EMPTY)
        moved = Reply(307, headers={"Location": f"http://{storage.host}/bucket/blob?signature=x"})
        gate.rule = lambda asked: allowed(asked) or (moved if "/blobs/" in asked.path else None)
        assert Client(gate.host).get_blob("ml/x", digest_of(EMPTY)) == EMPTY
        assert gate.asked[-1].authorization.startswith("Basic ")
        assert [asked.authorization for asked in storage.asked] == [""]


def test_a_storage_that_wants_credentials_gets_none(tmp_path: Path, gate: Gate) -> None:
    config = tmp_path / "home" / ".docker" / "config.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({"auths": {gate.host: {"username": "me", "password": "s3cret"}}}))
    with Gate() as storage:
        storage.rule = basic("me", "s3cret")
        moved = Reply(307, headers={"Location": f"http://{storage.host}/blob"})
        gate.rule = lambda asked: moved if "/blobs/" in asked.path else None
        with pytest.raises(RegistryError) as caught:
            Client(gate.host).get_blob("ml/x", digest_of(EMPTY))
        assert caught.value.problem.kind is Kind.CREDENTIALS
        assert {asked.authorization for asked in (*storage.asked, *gate.asked)} == {""}


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("http://storage.example/b?signature=s3cret", "redirects to http://storage.example/b, which is not https"),
        ("/v2/ml/x/blobs/again", "redirects more than 5 times"),
    ],
)
def test_redirects_that_are_not_followed(gate: Gate, location: str, expected: str) -> None:
    gate.rule = lambda asked: Reply(302, headers={"Location": location}) if "/blobs/" in asked.path else None
    with pytest.raises(RegistryError) as caught:
        Client(gate.host).get_blob("ml/x", digest_of(EMPTY))
    assert expected in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_proxy_of_the_environment_is_not_asked_for_loopback(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert Client(gate.host).head_manifest("ml/x", "v1")


def test_a_proxy_of_the_environment_is_asked_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    with Gate() as proxy:
        proxy.rule = lambda asked: Reply(404) if asked.method == "HEAD" else None
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.host}")
        monkeypatch.setenv("MFBAZEL_INSECURE_REGISTRIES", "r.example:1")
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
        proxy.rule = lambda _: Reply(404)
        assert Client("r.example:1").head_manifest("ml/x", "v1") is None
        assert proxy.asked[-1].path == "http://r.example:1/v2/ml/x/manifests/v1"


# 0.0.0.0 leads to this machine and is no loopback address: what mfbazel does with other machines happens with it.
def test_plain_http_to_other_machines_is_refused_until_it_is_allowed(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = f"0.0.0.0:{gate.port}"
    failure = _failure(Client(host))
    assert failure.problem.kind is Kind.PLAIN_HTTP
    assert "MFBAZEL_INSECURE_REGISTRIES" in str(failure)
    assert gate.asked == []
    assert Client(host, insecure=True).head_manifest("ml/x", "v1")
    monkeypatch.setenv("MFBAZEL_INSECURE_REGISTRIES", f"r.example, {host}")
    assert Client(host).head_manifest("ml/x", "v1")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def _server(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("0.0.0.0", "127.0.0.1").configure_cert(context)
    return context


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "certs.d"])
def test_a_certificate_authority_of_one_s_own_is_trusted_when_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: trustme.CA, variable: str
) -> None:
    with gate_before_a_registry(tmp_path / "disk", _server(authority)) as gate:
        host = f"0.0.0.0:{gate.port}"
        assert _failure(Client(host)).problem.kind is Kind.TLS
        if variable == "certs.d":
            file = tmp_path / "home" / ".config" / "containers" / "certs.d" / host / "ca.crt"
        else:
            file = tmp_path / "ca.pem"
            monkeypatch.setenv(variable, str(file))
        file.parent.mkdir(parents=True, exist_ok=True)
        authority.cert_pem.write_to_path(file)
        assert Client(host).head_manifest("ml/x", "v1") is None


def test_tls_works_on_loopback_and_without_a_trusted_certificate_where_allowed(
    tmp_path: Path, authority: trustme.CA
) -> None:
    with gate_before_a_registry(tmp_path / "disk", _server(authority)) as gate:
        assert _failure(Client(gate.host)).problem.kind is Kind.TLS
        assert Client(gate.host, insecure=True).head_manifest("ml/x", "v1") is None
        assert Client(f"0.0.0.0:{gate.port}", insecure=True).head_manifest("ml/x", "v1") is None


def test_an_upload_continues_where_the_registry_says(gate: Gate) -> None:
    def rule(asked: Asked) -> Reply | None:
        if asked.method == "POST":
            return Reply(202, headers={"Location": "/elsewhere?state=a%2Fb"})
        return Reply(201) if asked.method == "PUT" else None

    gate.rule = rule
    assert Client(gate.host).put_blob("ml/x", b"new")
    assert gate.asked[-1].path == f"/elsewhere?state=a%2Fb&digest=sha256%3A{digest_of(b'new')[7:]}"
    assert gate.asked[-1].body == b"new"
