"""Registries that want to know who asks."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mfbazel.registry import Client, Kind, RegistryError, confirm
from mfbazel.registry.auth import parse_challenges
from mfbazel.registry.client import digest_of
from tests.registry.gate import Asked, Gate, Reply, TokenService, basic, gate_before_a_registry, without_credentials


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    without_credentials(tmp_path, monkeypatch)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    with gate_before_a_registry(tmp_path / "disk") as made:
        yield made


def _log_in(tmp_path: Path, host: str, **entry: str) -> None:
    """Write docker's configuration."""
    file = tmp_path / "docker" / "config.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"auths": {host: entry}}))


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_challenges_are_read_with_quotes_and_several_in_a_line() -> None:
    header = 'Basic realm="a, \\"b\\"", Bearer realm="https://t.example/x",service=s,scope="repository:a:pull,push"'
    first, second = parse_challenges(header)
    assert (first.scheme, first.parameters) == ("basic", {"realm": 'a, "b"'})
    assert second.scheme == "bearer"
    assert second.parameters == {"realm": "https://t.example/x", "service": "s", "scope": "repository:a:pull,push"}
    assert [challenge.scheme for challenge in parse_challenges("Negotiate, Basic")] == ["negotiate", "basic"]
    assert parse_challenges("") == parse_challenges('="') == []


def test_name_and_password_are_sent_once_the_registry_asks(tmp_path: Path, gate: Gate) -> None:
    gate.rule = basic("me", "s3cret")
    _log_in(tmp_path, gate.host, auth=_encoded("me:s3cret"))
    client = Client(gate.host)
    assert client.put_blob("ml/x", b"data")
    assert client.get_blob("ml/x", digest_of(b"data")) == b"data"
    refused = [asked for asked in gate.asked if not asked.authorization]
    assert len(refused) == 3  # the greeting, and the first request that reads and the first that writes


@pytest.mark.parametrize("password", ["wrong-s3cret", None])
def test_wrong_and_missing_credentials_are_an_error_that_says_where_they_come_from(
    tmp_path: Path, gate: Gate, password: str | None
) -> None:
    gate.rule = basic("me", "right-s3cret")
    if password:
        _log_in(tmp_path, gate.host, auth=_encoded(f"me:{password}"))
    with pytest.raises(RegistryError) as caught:
        Client(gate.host).head_manifest("ml/x", "v1")
    assert caught.value.problem.kind is Kind.CREDENTIALS
    text = str(caught.value)
    assert text.startswith(f"the registry {gate.host} wants credentials for {gate.host}/ml/x:v1 and refused those it")
    assert "401 UNAUTHORIZED: authentication required" in text  # the HEAD says nothing, so that a GET was sent
    assert f"`crane auth login {gate.host}`" in text
    assert "s3cret" not in text


def test_a_helper_is_asked_once_for_all_repositories(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.rule = basic("me", "s3cret")
    helper = tmp_path / "bin" / "docker-credential-counting"
    helper.parent.mkdir()
    answer = json.dumps({"Username": "me", "Secret": "s3cret"})
    helper.write_text(f"#!/bin/sh\ncat >/dev/null\necho asked >>{tmp_path}/asked\necho '{answer}'\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(helper.parent), prepend=os.pathsep)
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text(json.dumps({"credHelpers": {gate.host: "counting"}}))
    problems = confirm([f"{gate.host}/ml/x{number}:v1" for number in range(40)], timeout=60)
    assert {problem and problem.kind for problem in problems.values()} == {Kind.MISSING}
    assert (tmp_path / "asked").read_text() == "asked\n"


def test_a_password_in_netrc_is_not_sent(tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    gate.rule = basic("me", "s3cret")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password s3cret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with pytest.raises(RegistryError):
        Client(gate.host).head_manifest("ml/x", "v1")
    assert {asked.authorization for asked in gate.asked} == {""}


def test_a_token_is_fetched_once_for_a_scope_and_for_all_images(tmp_path: Path, gate: Gate) -> None:
    service = TokenService(gate, "Basic " + _encoded("me:s3cret"))
    gate.rule = service.rule
    _log_in(tmp_path, gate.host, auth=_encoded("me:s3cret"))
    problems = confirm([f"{gate.host}/ml/x:t{number}" for number in range(40)], timeout=20)
    assert {problem and problem.kind for problem in problems.values()} == {Kind.MISSING}
    assert service.given == [["repository:ml/x:pull"]]


def test_writing_takes_another_scope_and_works_without_credentials(gate: Gate) -> None:
    service = TokenService(gate, name="access_token")
    gate.rule = service.rule
    client = Client(gate.host)
    assert client.put_blob("ml/x", b"data")
    assert client.get_blob("ml/x", digest_of(b"data")) == b"data"
    assert service.given == [["repository:ml/x:pull"], ["repository:ml/x:pull,push", "repository:ml/x:pull"]]


def test_a_token_that_has_run_out_is_renewed_once(gate: Gate) -> None:
    service = TokenService(gate)
    gate.rule = service.rule
    client = Client(gate.host)
    assert client.head_manifest("ml/x", "v1") is None
    service.valid.clear()
    assert client.head_manifest("ml/x", "v1") is None
    assert len(service.given) == 2
    nobody = Asked("GET", "/", "", b"", {})
    gate.rule = lambda asked: service.rule(asked if asked.path.startswith("/token") else nobody)
    with pytest.raises(RegistryError) as caught:
        client.head_manifest("ml/x", "v1")
    assert caught.value.problem.kind is Kind.CREDENTIALS
    assert "s3cret" not in str(caught.value)


def test_an_identity_token_is_exchanged_by_post(tmp_path: Path, gate: Gate) -> None:
    service = TokenService(gate, refresh_token="s3cret-identity")
    gate.rule = service.rule
    _log_in(tmp_path, gate.host, identitytoken="s3cret-identity")
    assert Client(gate.host).head_manifest("ml/x", "v1") is None
    asked = next(asked for asked in gate.asked if asked.path == "/token")
    assert asked.method == "POST"
    assert b"grant_type=refresh_token" in asked.body


def test_a_registry_token_is_sent_as_it_is(tmp_path: Path, gate: Gate) -> None:
    service = TokenService(gate, valid={"ready-made"})
    gate.rule = service.rule
    _log_in(tmp_path, gate.host, registrytoken="ready-made")
    assert Client(gate.host).head_manifest("ml/x", "v1") is None
    assert service.given == []


@pytest.mark.parametrize(
    ("realm", "reply", "kind", "expected"),
    [
        ("", Reply(401, b"s3cret"), Kind.CREDENTIALS, "its token service 127.0.0.1/token answers 401"),
        ("", Reply(403), Kind.DENIED, "answers 403"),
        ("", Reply(200, b"<html>"), Kind.MALFORMED, "its token service 127.0.0.1/token gives no token"),
        ("http://token.example/", Reply(200), Kind.MALFORMED, "its token service 'http://token.example/' has no https"),
    ],
)
def test_a_token_service_that_gives_no_token(gate: Gate, realm: str, reply: Reply, kind: Kind, expected: str) -> None:
    service = TokenService(gate, realm=realm)
    gate.rule = lambda asked: reply if asked.path.startswith("/token") else service.rule(asked)
    with pytest.raises(RegistryError) as caught:
        Client(gate.host).head_manifest("ml/x", "v1")
    assert caught.value.problem.kind is kind
    assert expected in str(caught.value)
    assert "s3cret" not in str(caught.value)
