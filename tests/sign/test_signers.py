"""The built-in signers, with the real programs and real registries: what is accepted and what is refused."""

from __future__ import annotations

import json
import os
import ssl
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from bench.push_rig import find_crane, serve_registry
from mfbazel.registry import Client
from mfbazel.sign import SignError, Target, UnsignedError, load_signer, target
from tests.sign.fulcio import Authority, Fulcio, Issuer, TimestampAuthority
from tests.sign.rig import OFFLINE, Keys, cosign_keys, docker_registry, notation_home, push_image

PATH = "ml/churn"
PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def scratch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the programs write out of the user's home, and credentials out of the tests."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COSIGN_PASSWORD", PASSWORD)
    for name in ("XDG_CONFIG_HOME", "DOCKER_CONFIG", "SIGSTORE_ID_TOKEN", "MFBAZEL_INSECURE_REGISTRIES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("signers")


@pytest.fixture(scope="module")
def keys(place: Path) -> Keys:
    return cosign_keys(place / "keys", password=PASSWORD)


@pytest.fixture(scope="module", params=["crane", "docker-registry"])
def client(request: pytest.FixtureRequest, place: Path) -> Iterator[Client]:
    if request.param == "crane":
        with serve_registry(find_crane(), place / "crane") as host:
            yield Client(host)
    else:
        with docker_registry(place / "docker") as host:
            yield Client(host)


@pytest.fixture(scope="module")
def registry(place: Path) -> Iterator[Client]:
    """One registry, where it does not matter which."""
    with serve_registry(find_crane(), place / "only") as host:
        yield Client(host)


def image(client: Client, seed: str) -> Target:
    return target(client, PATH, push_image(client, PATH, seed).digest)


def test_cosign_accepts_what_its_key_signed_and_nothing_else(client: Client, keys: Keys, tmp_path: Path) -> None:
    cosign = load_signer("cosign", keys.options, tmp_path).signer
    signed, other = image(client, "signed"), image(client, "another image")
    cosign.sign(signed)
    assert str(keys.public) in cosign.verify(signed)
    with pytest.raises(UnsignedError, match="not signed by the key"):
        cosign.verify(other)


def test_notation_accepts_what_its_trust_policy_names_and_nothing_else(client: Client, tmp_path: Path) -> None:
    notation = load_signer("notation", {"config_home": str(notation_home(tmp_path / "own"))}, tmp_path).signer
    signed, other = image(client, "signed by notation"), image(client, "not by notation")
    notation.sign(signed)
    notation.verify(signed)
    with pytest.raises(UnsignedError, match="no signature is associated"):
        notation.verify(other)
    stranger = load_signer("notation", {"config_home": str(notation_home(tmp_path / "other"))}, tmp_path).signer
    with pytest.raises(UnsignedError, match="Another key signed it"):
        stranger.verify(signed)


@pytest.mark.parametrize("level", ["skip", "audit"])
def test_a_trust_policy_of_notation_that_accepts_everything_verifies_nothing(
    registry: Client, tmp_path: Path, level: str
) -> None:
    own = load_signer("notation", {"config_home": str(notation_home(tmp_path / "own"))}, tmp_path).signer
    home = notation_home(tmp_path / "other")
    policy = home / "notation" / "trustpolicy.json"
    content = json.loads(policy.read_text())
    content["trustPolicies"][0]["signatureVerification"]["level"] = level
    if level == "skip":
        del content["trustPolicies"][0]["trustStores"], content["trustPolicies"][0]["trustedIdentities"]
    policy.write_text(json.dumps(content))
    signed = image(registry, f"signed where the level is {level}")
    own.sign(signed)
    with pytest.raises(SignError, match=r'Set the level .* to "strict"'):
        load_signer("notation", {"config_home": str(home)}, tmp_path).signer.verify(signed)


def test_a_signature_of_another_image_is_refused(registry: Client, keys: Keys, tmp_path: Path) -> None:
    """Who may write to the registry can list a signature under any image."""
    cosign = load_signer("cosign", keys.options, tmp_path).signer
    signed, victim = push_image(registry, PATH, "has one"), push_image(registry, PATH, "has none")
    cosign.sign(target(registry, PATH, signed.digest))
    listed = registry.get_manifest(PATH, signed.digest.replace(":", "-"))
    registry.put_manifest(PATH, victim.digest.replace(":", "-"), listed.data, listed.media_type)
    with pytest.raises(UnsignedError):
        cosign.verify(target(registry, PATH, victim.digest))


def test_a_signature_by_another_key_is_refused(registry: Client, keys: Keys, tmp_path: Path) -> None:
    other = cosign_keys(tmp_path / "other", password=PASSWORD)
    signed = image(registry, "signed by another key")
    load_signer("cosign", other.options, tmp_path).signer.sign(signed)
    with pytest.raises(UnsignedError, match="Another key signed it"):
        load_signer("cosign", keys.options, tmp_path).signer.verify(signed)


def test_a_key_may_be_in_the_environment(
    registry: Client, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNING_KEY", keys.private.read_text())
    monkeypatch.setenv("SIGNING_KEY_PUB", keys.public.read_text())
    options = {**OFFLINE, "key": "env://SIGNING_KEY", "public_key": "env://SIGNING_KEY_PUB"}
    cosign = load_signer("cosign", options, tmp_path).signer
    signed = image(registry, "by a key in the environment")
    cosign.sign(signed)
    cosign.verify(signed)


@pytest.mark.parametrize(
    ("options", "password", "words"),
    [
        ({}, "wrong", "The password is wrong. The password of the key is taken from COSIGN_PASSWORD"),
        ({}, None, "The key has a password, and none is given"),
        ({"key": "missing.key"}, PASSWORD, "Correct the option `key`: a relative path begins at the workspace"),
        ({"key": "env://NOBODY_SET_THIS"}, PASSWORD, "Set the variable that the option `key` names"),
        ({"key": "PUBLIC"}, PASSWORD, "name the private one"),
        ({"program": "no-such-cosign"}, PASSWORD, "Install cosign, or name it: sign_options"),
    ],
    ids=["wrong password", "no password", "no file", "no variable", "public key", "no program"],
)
def test_what_is_missing_for_a_signature_is_said(
    registry: Client,
    keys: Keys,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, str],
    password: str | None,
    words: str,
) -> None:
    if password is None:
        monkeypatch.delenv("COSIGN_PASSWORD")
    else:
        monkeypatch.setenv("COSIGN_PASSWORD", password)
    given = {**keys.options, **options}
    if given["key"] == "PUBLIC":
        given["key"] = str(keys.public)
    with pytest.raises(SignError) as caught:
        load_signer("cosign", given, tmp_path).signer.sign(image(registry, "will not be signed"))
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["cosign", "notation"])
def test_a_relative_program_begins_at_the_workspace(name: str, tmp_path: Path) -> None:
    fake = tmp_path / "tools" / "program"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    fake.chmod(stat.S_IRWXU)
    there = Target(f"registry.example.com/ml@sha256:{'0' * 64}")
    load_signer(name, {"program": "tools/program", "key": "k"}, tmp_path).signer.sign(there)
    assert (tmp_path / "ran").exists()


def test_an_upload_that_the_registry_refuses_is_said(registry: Client, keys: Keys, tmp_path: Path) -> None:
    missing = target(registry, PATH, f"sha256:{'0' * 64}")
    with pytest.raises(SignError, match="Push the image first"):
        load_signer("cosign", keys.options, tmp_path).signer.sign(missing)
    nobody = Target(f"127.0.0.1:1/{PATH}@sha256:{'0' * 64}", plain_http=True)
    with pytest.raises(SignError, match="look whether it runs"):
        load_signer("cosign", keys.options, tmp_path).signer.sign(nobody)
    home = {"config_home": str(notation_home(tmp_path / "home"))}
    with pytest.raises(SignError, match="look whether the registry runs"):
        load_signer("notation", home, tmp_path).signer.sign(nobody)


def test_verifying_needs_to_know_whose_signature(registry: Client, tmp_path: Path) -> None:
    nothing = {"identity_regexp": "", "issuer_regexp": ""}
    for options in (OFFLINE, {**OFFLINE, "identity": "ci@example.com"}, {**OFFLINE, **nothing}):
        with pytest.raises(SignError, match="anybody's signature would do"):
            load_signer("cosign", options, tmp_path).signer.verify(image(registry, "whose"))
    empty = {"config_home": str(tmp_path)}
    with pytest.raises(SignError, match="notation/trustpolicy"):
        load_signer("notation", empty, tmp_path).signer.verify(image(registry, "whose"))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("cosing", {}, "there is no signer 'cosing'; there are cosign, notation"),
        ("cosign", {"kay": "x"}, "the signer cosign has no option 'kay'; it has:\n  key: "),
        ("notation", {"public_key": "x"}, "the signer notation has no option 'public_key'; it has:\n  key: "),
        ("cosign", {"key": "x", "identity": "me"}, "take one away"),
        ("cosign", {"signing_config": "x", "rekor_url": "y"}, "take one away"),
        ("cosign", {"transparency_log": "no"}, "write true or false"),
        ("cosign", {"transparency_log": "false", "rekor_url": "y"}, "transparency_log is false"),
        ("cosign", {"key": "x", "timestamp_url": "y"}, "name it too, rekor_url"),
        ("cosign", {"identity": "x", "identity_regexp": "y", "issuer": "z"}, "identity and identity_regexp: take one"),
        ("cosign", {"identity_regexp": ".*", "issuer_regexp": "^.*$"}, "accept anybody's signature"),
        ("notation", {"plugin": "x"}, "go together"),
        ("notation", {"plugin": "x", "id": "y", "key": "z"}, "take one away"),
    ],
)
def test_a_wrong_name_is_refused_with_the_known_ones(
    name: str, options: dict[str, str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(SignError) as caught:
        load_signer(name, options, tmp_path)
    assert words in str(caught.value)


def test_a_key_in_the_place_of_its_name_is_refused_and_not_repeated(keys: Keys, tmp_path: Path) -> None:
    with pytest.raises(SignError, match="holds a key") as caught:
        load_signer("cosign", {"key": keys.private.read_text()}, tmp_path)
    assert keys.private.read_text().splitlines()[1] not in str(caught.value)


def test_no_secret_is_on_a_command_line_or_in_an_error(
    registry: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that notes its arguments stands in for cosign, and says all that it is given in its environment."""
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", "the-identity-token")
    fake = tmp_path / "cosign"
    fake.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/argv\n'
        'echo "Error: GET https://user:$COSIGN_PASSWORD@host/token?access_token=$SIGSTORE_ID_TOKEN" >&2\nexit 1\n'
    )
    fake.chmod(stat.S_IRWXU)
    options = {**OFFLINE, "fulcio_url": "https://fulcio.example.com", "program": str(fake)}
    with pytest.raises(SignError) as caught:
        load_signer("cosign", options, tmp_path).signer.sign(image(registry, "secrets"))
    for text in ((tmp_path / "argv").read_text(), str(caught.value)):
        assert PASSWORD not in text
        assert "the-identity-token" not in text


@pytest.mark.parametrize(
    ("plain", "insecure", "cosign", "notation"),
    [
        (False, False, [], []),
        (True, False, ["--allow-http-registry=true"], ["--insecure-registry"]),
        (False, True, ["--allow-insecure-registry=true"], []),
    ],
)
def test_plain_http_is_allowed_only_where_mfbazel_allows_it(
    plain: bool, insecure: bool, cosign: list[str], notation: list[str], tmp_path: Path
) -> None:
    there = Target(f"registry.example.com/ml@sha256:{'0' * 64}", plain, insecure)
    fake = tmp_path / "program"
    fake.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/argv\n')
    fake.chmod(stat.S_IRWXU)
    for name, expected in (("cosign", cosign), ("notation", notation)):
        options = {"program": str(fake), "key": "k"}
        load_signer(name, options, tmp_path).signer.sign(there)
        said = [
            line for line in (tmp_path / "argv").read_text().splitlines() if "insecure" in line or "http-reg" in line
        ]
        assert said == expected


class Sigstore:
    """A private deployment of Sigstore: an issuer of identities and a certificate authority, without logs."""

    def __init__(self, place: Path) -> None:
        self.issuer = Issuer("https://ci.example.com")
        authority, web = Authority("a Fulcio for tests"), trustme.CA()
        (place / "fulcio.pem").write_text(authority.pem)
        web.cert_pem.write_to_path(str(place / "web.pem"))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        web.issue_cert("127.0.0.1").configure_cert(tls)
        self.fulcio = Fulcio(self.issuer, authority, tls)
        self.root = place / "trusted_root.json"
        self.timestamps = TimestampAuthority(place)
        chains = {
            "--fulcio": f"url={self.fulcio.url},certificate-chain={place / 'fulcio.pem'}",
            "--tsa": f"url={self.timestamps.url},certificate-chain={self.timestamps.chain}",
        }
        services = [part for option in chains.items() for part in option]
        command = ["cosign", "trusted-root", "create", *services, "--out", str(self.root)]
        subprocess.run(command, env={**os.environ, "HOME": str(place)}, capture_output=True, check=True)
        self.options = {
            **OFFLINE,
            "certificate_log": "false",
            "fulcio_url": self.fulcio.url,
            "trusted_root": str(self.root),
            "identity": "ci@example.com",
            "issuer": self.issuer.url,
        }


@pytest.fixture(scope="module")
def sigstore(place: Path) -> Iterator[Sigstore]:
    deployed = Sigstore(place)
    with deployed.fulcio, deployed.timestamps:
        yield deployed


@pytest.fixture
def trusting(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(place / "web.pem"))


@pytest.mark.usefixtures("trusting")
def test_keyless_signatures_are_by_the_identity_of_the_token(
    registry: Client, sigstore: Sigstore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", sigstore.issuer.token("ci@example.com"))
    signed = image(registry, "keyless")
    cosign = load_signer("cosign", sigstore.options, tmp_path).signer
    cosign.sign(signed)
    assert cosign.verify(signed) == f"ci@example.com of {sigstore.issuer.url}"
    assert sigstore.fulcio.given[-1] == "ci@example.com"
    # As docs/signing.md says: a regular expression is found anywhere.
    anywhere = {name: value for name, value in sigstore.options.items() if name != "identity"}
    load_signer("cosign", {**anywhere, "identity_regexp": "@example[.]co"}, tmp_path).signer.verify(signed)
    with pytest.raises(UnsignedError):
        load_signer("cosign", {**anywhere, "identity_regexp": "^@example[.]co"}, tmp_path).signer.verify(signed)
    for name, value in (("identity", "someone@example.com"), ("issuer", "https://other.example.com")):
        with pytest.raises(UnsignedError, match="Somebody else signed it"):
            load_signer("cosign", {**sigstore.options, name: value}, tmp_path).signer.verify(signed)


@pytest.mark.usefixtures("trusting")
def test_keyless_signing_without_a_token_of_the_issuer_is_refused(
    registry: Client, sigstore: Sigstore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cosign = load_signer("cosign", sigstore.options, tmp_path).signer
    with pytest.raises(SignError, match="SIGSTORE_ID_TOKEN"):
        cosign.sign(image(registry, "keyless without a token"))
    stranger = Issuer(sigstore.issuer.url).token("ci@example.com")
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", stranger)
    with pytest.raises(SignError, match="does not take the identity token") as caught:
        cosign.sign(image(registry, "keyless with a token of someone else"))
    assert stranger not in str(caught.value)


@pytest.mark.usefixtures("trusting")
def test_keyless_signatures_that_last_have_a_timestamp(
    registry: Client, sigstore: Sigstore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", sigstore.issuer.token("ci@example.com"))
    signed = image(registry, "with a timestamp")
    without = load_signer("cosign", sigstore.options, tmp_path).signer
    stamped = load_signer("cosign", {**sigstore.options, "timestamp_url": sigstore.timestamps.url}, tmp_path).signer
    without.sign(signed)
    with pytest.raises(UnsignedError, match="has no timestamp"):
        stamped.verify(signed)
    stamped.sign(signed)
    assert stamped.verify(signed) == without.verify(signed)


def test_keyless_signing_with_services_of_ones_own_needs_an_authority(registry: Client, tmp_path: Path) -> None:
    with pytest.raises(SignError, match="fulcio_url"):
        load_signer("cosign", OFFLINE, tmp_path).signer.sign(image(registry, "no authority"))
