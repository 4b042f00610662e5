"""Credentials are found where docker and podman keep them, and never shown."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from mfbazel.registry.credentials import Credentials, find_credentials
from mfbazel.registry.errors import Failure


def _auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def _helper(directory: Path, name: str, script: str) -> str:
    """Make a credential helper; return what PATH has to be."""
    program = directory / "bin" / f"docker-credential-{name}"
    _write(program, f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return f"{program.parent}:/usr/bin:/bin"


def _in_docker(tmp_path: Path, content: Any, **env: str) -> dict[str, str]:
    """Write docker's file; return the environment that leads to it."""
    _write(tmp_path / ".docker" / "config.json", content)
    return {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", **env}


def test_no_file_means_no_credentials(tmp_path: Path) -> None:
    assert find_credentials("r.example", "ml/x", {"HOME": str(tmp_path)}) is None


@pytest.mark.parametrize("key", ["r.example", "https://r.example", "https://r.example/v2/", "http://r.example/v1/"])
def test_docker_writes_a_registry_in_several_ways(tmp_path: Path, key: str) -> None:
    env = _in_docker(tmp_path, {"auths": {key: _auth("me:pa:ss")}})
    assert find_credentials("r.example", "ml/x", env) == Credentials("me", "pa:ss")


def test_each_file_is_asked_and_the_first_that_knows_the_registry_counts(tmp_path: Path) -> None:
    files = {
        "docker": tmp_path / "docker" / "config.json",
        "named": tmp_path / "named.json",
        "runtime": tmp_path / "run" / "containers" / "auth.json",
        "home": tmp_path / ".config" / "containers" / "auth.json",
    }
    env = {
        "HOME": str(tmp_path),
        "DOCKER_CONFIG": str(tmp_path / "docker"),
        "REGISTRY_AUTH_FILE": str(files["named"]),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
    }
    _write(tmp_path / ".docker" / "config.json", {"auths": {"r.example": _auth("not:asked")}})
    for name, path in reversed(files.items()):
        _write(path, {"auths": {"r.example": _auth(f"{name}:x"), f"{name}.example": _auth("own:x")}})
        found = find_credentials("r.example", "ml/x", env)
        assert found and found.username == name
    assert find_credentials("home.example", "ml/x", env) == Credentials("own", "x")


def test_the_longest_path_counts_as_in_podman(tmp_path: Path) -> None:
    auths = {"r.example/ml/churn": _auth("churn:x"), "r.example/ml": _auth("ml:x"), "r.example": _auth("all:x")}
    env = _in_docker(tmp_path, {"auths": auths})
    for path, expected in [("ml/churn", "churn"), ("ml/churn/deep", "churn"), ("ml/churning", "ml"), ("mlx", "all")]:
        found = find_credentials("r.example", path, env)
        assert found and found.username == expected
    assert find_credentials("r.example:443", "ml/churn", env) is None


def test_tokens_of_the_file(tmp_path: Path) -> None:
    auths = {"i.example": {"identitytoken": "i"}, "r.example": {"registrytoken": "r"}, "e.example": {}}
    env = _in_docker(tmp_path, {"auths": auths})
    assert find_credentials("i.example", "", env) == Credentials(identity_token="i")
    assert find_credentials("r.example", "", env) == Credentials(registry_token="r")
    assert find_credentials("e.example", "", env) is None


def test_a_helper_gets_the_registry_on_standard_input_and_nothing_secret_in_its_arguments(tmp_path: Path) -> None:
    path = _helper(
        tmp_path,
        "mine",
        """[ "$*" = get ] || exit 9; read -r host; printf '{"Username": "at %s", "Secret": "s"}' "$host" """,
    )
    env = _in_docker(tmp_path, {"credHelpers": {"r.example:5000": "mine"}}, PATH=path)
    assert find_credentials("r.example:5000", "ml/x", env) == Credentials("at r.example:5000", "s")
    assert find_credentials("r.example", "ml/x", env) is None


def test_a_store_is_asked_for_every_registry_and_may_not_know_it(tmp_path: Path) -> None:
    script = """read -r host
        [ "$host" = known.example ] && { echo '{"Username": "<token>", "Secret": "identity"}'; exit; }
        echo 'credentials not found in native keychain'; exit 1"""
    env = _in_docker(tmp_path, {"credsStore": "store", "auths": {"known.example": {}}}, PATH="")
    env["PATH"] = _helper(tmp_path, "store", script)
    assert find_credentials("known.example", "ml/x", env) == Credentials(identity_token="identity")
    assert find_credentials("other.example", "ml/x", env) is None


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'keychain is locked' >&2; exit 1", "docker-credential-bad failed (1): keychain is locked"),
        ("echo s3cret", "docker-credential-bad does not answer with JSON"),
        ("echo 'see https://me:s3cret@host/'; exit 1", "see https://***@host/"),
        ("exec sleep 5", "docker-credential-bad did not answer within 0 s"),
        ("", "docker-credential-bad does not answer with JSON"),
    ],
)
def test_a_failing_helper_is_named_without_what_it_may_have_given_away(
    tmp_path: Path, script: str, expected: str
) -> None:
    env = _in_docker(tmp_path, {"credsStore": "bad"}, PATH=_helper(tmp_path, "bad", script))
    with pytest.raises(Failure) as caught:
        find_credentials("r.example", "ml/x", env, seconds=0.4)
    assert expected in caught.value.detail
    assert "s3cret" not in caught.value.detail


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"auths": s3cret', "config.json is not JSON"),
        ("[]", "config.json is not a JSON object"),
        ({"auths": ["s3cret"]}, "`auths` is not an object"),
        ({"auths": {"r.example": "s3cret"}}, "the entry r.example of `auths` is not an object"),
        ({"auths": {"r.example": {"auth": "*s3cret*"}}}, "`auth` of r.example is not base64 of name:password"),
        ({"credsStore": "none-such"}, "docker-credential-none-such cannot be started: No such file or directory"),
        ({"credsStore": "../evil"}, "'../evil' is no name of a credential helper"),
    ],
)
def test_a_damaged_file_is_named_without_its_content(tmp_path: Path, content: Any, expected: str) -> None:
    env = _in_docker(tmp_path, content)
    with pytest.raises(Failure) as caught:
        find_credentials("r.example", "ml/x", env)
    assert expected in caught.value.detail
    assert "s3cret" not in repr(caught.value)


def test_secrets_are_in_no_representation() -> None:
    shown = repr(Credentials("me", "s3cret1", "s3cret2", "s3cret3"))
    assert "me" in shown
    assert "s3cret" not in shown
