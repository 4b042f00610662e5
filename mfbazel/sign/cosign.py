"""The signer ``cosign``: with a key, or keyless with an identity that Fulcio certifies (Sigstore)."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mfbazel.sign.errors import SignError, UnsignedError
from mfbazel.sign.options import Options
from mfbazel.sign.program import Finished, Program, find_program, first_found
from mfbazel.sign.target import Target

_OPTIONS = {
    "key": "the private key: a file, env://VARIABLE, k8s://namespace/secret or the URI of a key service (awskms://, "
    "gcpkms://, azurekms://, hashivault://); without it, signing is keyless",
    "public_key": "the public key to verify with; default: `key` of a key service, or KEY.pub beside the file KEY.key",
    "identity": "keyless: who must have signed, as the certificate names them",
    "identity_regexp": "instead, a regular expression that is found in it: ^ and $ say where it begins and ends",
    "issuer": "keyless: the OpenID Connect issuer that must have vouched for them",
    "issuer_regexp": "instead, a regular expression, likewise",
    "fulcio_url": "the certificate authority, instead of Sigstore's public one",
    "rekor_url": "the transparency log, instead of Sigstore's public one",
    "timestamp_url": "a timestamping authority (RFC 3161)",
    "signing_config": "a file that says all three (`cosign signing-config create`)",
    "trusted_root": "a file with the certificates of all of them, to verify with (`cosign trusted-root create`)",
    "transparency_log": "false: signatures are put into no transparency log, and are not looked for in one",
    "timestamps": "true: a signature counts only with a timestamp of an authority of `trusted_root`; default: whether "
    "`timestamp_url` is given",
    "certificate_log": "false: certificates need not be in a certificate transparency log",
    "program": "path or name of cosign",
}
_BUNDLED = ("fulcio_url", "rekor_url", "timestamp_url")
_KEYLESS = ("identity", "identity_regexp", "issuer", "issuer_regexp")
_KEY_SERVICES = ("awskms://", "gcpkms://", "azurekms://", "hashivault://", "k8s://", "gitlab://")
_PASSWORD = "The password of the key is taken from COSIGN_PASSWORD: set it to the right one."
_TOKEN = (
    "Keyless signing takes an identity token from the CI system, or from SIGSTORE_ID_TOKEN (audience `sigstore`): give "
    "the job the permission for it (GitHub Actions: `id-token: write`; GitLab: `id_tokens`), or sign with a key."
)
_REGISTRY = (
    "cosign takes credentials from where docker and podman have them: log in to the registry, and look whether it runs."
)
_SIGN_REASONS = (
    ("decryption failed", "The password is wrong. " + _PASSWORD),
    ("inappropriate ioctl", "The key has a password, and none is given. " + _PASSWORD),
    ("no such file", "Correct the option `key`: a relative path begins at the workspace."),
    ("env var", "Set the variable that the option `key` names."),
    ("unsupported pem type: PUBLIC", "The option `key` names a public key; name the private one."),
    ("retrieving ID token", _TOKEN),
    ("no matching service found", _TOKEN),
    ("Fulcio returned", "The certificate authority does not take the identity token. " + _TOKEN),
    (
        "getting signing config",
        'Sigstore\'s public instance cannot be reached. Say `transparency_log = "false"` for a '
        "key without a log, or name your own: `fulcio_url`, `rekor_url` and `trusted_root`.",
    ),
    ("UNAUTHORIZED", _REGISTRY),
    ("DENIED", _REGISTRY),
    ("403", _REGISTRY),
    ("404", "Push the image first: what is signed must be in the registry."),
    ("connection refused", _REGISTRY),
)
_UNSIGNED = (
    "no signatures found",
    "no matching",
    "no valid",
    "failed to verify signature",
    "none of the expected identities",
)
_VERIFY_REASONS = (
    ("signed timestamps", "The signature has no timestamp; sign with `timestamp_url`, or do not ask for `timestamps`."),
    ("no such file", "Correct the path in the options `public_key` or `trusted_root`."),
    ("env var", "Set the variable that the option `public_key` names."),
    (
        "getting trusted root",
        "Sigstore's public instance cannot be reached: name your own `trusted_root`, or say "
        '`transparency_log = "false"` for a key without a log.',
    ),
    (
        "transparency log",
        'The signature is in no transparency log; where none is used, say `transparency_log = "false"`.',
    ),
    (
        "signed certificate timestamp",
        'The certificate is in no log; where none is used, say `certificate_log = "false"`.',
    ),
    ("CertificateIdentity", "Somebody else signed it than `identity` and `issuer` name."),
    ("accepted signatures do not match", "Another key signed it than `public_key`."),
)
_EMPTY_ROOT = {"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}
_SINCE = "2020-01-01T00:00:00Z"


class Cosign:
    """Signs with the program ``cosign`` (3 or later), which stores bundles as referrers of what it signs.

    Passwords (``COSIGN_PASSWORD``), identity tokens and credentials of key services are cosign's own affair: it takes
    them from the environment, which is passed on.
    """

    def __init__(self, options: Mapping[str, str], directory: Path) -> None:
        """Check the options; see ``_OPTIONS``.

        Raises:
            SignError: an option is unknown, or two contradict each other.
        """
        given = Options("cosign", options, _OPTIONS, directory)
        self._program = given.program()
        self._key = given.reference("key")
        self._public_key = given.reference("public_key") or _public_of(self._key)
        self._identity = {name: given.text(name) for name in _KEYLESS if given.any(name)}
        self._config = given.path("signing_config")
        self._urls = {name: given.text(name) for name in _BUNDLED if given.any(name)}
        self._root = given.path("trusted_root")
        self._log = given.flag("transparency_log", True)
        self._timestamps = given.flag("timestamps", given.any("timestamp_url"))
        self._certificate_log = given.flag("certificate_log", True)
        if given.any("key", "public_key") and self._identity:
            raise SignError(
                f"the options of cosign name a key and {', '.join(self._identity)}, which is of keyless signing: take "
                "one away."
            )
        for name in ("identity", "issuer"):
            if given.any(name) and given.any(f"{name}_regexp"):
                raise SignError(f"the options of cosign name {name} and {name}_regexp: take one away.")
        if self._identity and all(_finds_everything(name, value) for name, value in self._identity.items()):
            raise SignError(
                f"the options {', '.join(self._identity)} of cosign accept anybody's signature: name who must have "
                "signed, or the issuer that must know them."
            )
        if self._config and self._urls:
            raise SignError(
                f"the option signing_config of cosign says what {', '.join(self._urls)} says: take one away."
            )
        if not self._log and "rekor_url" in self._urls:
            raise SignError("the option rekor_url of cosign names a transparency log, and transparency_log is false.")
        if self._log and self._urls and "rekor_url" not in self._urls:
            raise SignError(
                f"the options {', '.join(self._urls)} of cosign name services of your own, without a transparency log: "
                'name it too, rekor_url, or say transparency_log = "false".'
            )

    def sign(self, target: Target) -> None:
        """Sign ``target``; see :class:`mfbazel.sign.signer.Signer`."""
        with self._settings() as settings:
            key = ["--key", self._key] if self._key else ["--fulcio-auth-flow", "token"]
            done = self._run("sign", "--yes", *key, *settings, *_registry(target), target.reference)
        if done.status:
            advice = first_found(done.said, _SIGN_REASONS, "cosign's words say why.")
            raise SignError(f"cosign cannot sign {target.reference}: {done.said}. {advice}")

    def verify(self, target: Target) -> str:
        """Check the signature of ``target``; see :class:`mfbazel.sign.signer.Signer`."""
        who, arguments = self._expected()
        with self._verification() as settings:
            done = self._run("verify", *arguments, *settings, *_registry(target), target.reference)
        if not done.status:
            return who
        if any(words in done.said for words in _UNSIGNED):
            advice = first_found(done.said, _VERIFY_REASONS, "Push it with the signer, or do not run it.")
            raise UnsignedError(f"{target.reference} is not signed by {who}: {done.said}. {advice}")
        advice = first_found(done.said, _VERIFY_REASONS, "cosign's words say why.")
        raise SignError(f"cosign cannot verify {target.reference}: {done.said}. {advice}")

    def _run(self, *arguments: str) -> Finished:
        return Program(find_program("cosign", self._program)).run(*arguments)

    def _expected(self) -> tuple[str, list[str]]:
        """Return who must have signed, for people, and the options that say so."""
        if self._public_key:
            return f"the key {self._public_key}", ["--key", self._public_key]
        named = {name.partition("_")[0] for name in self._identity}
        if named != {"identity", "issuer"}:
            raise SignError(
                "verifying with cosign needs the option public_key, or, for keyless signatures, identity and issuer "
                "(or identity_regexp, issuer_regexp): without them, anybody's signature would do."
            )
        flags = {"identity": "--certificate-identity", "issuer": "--certificate-oidc-issuer"}
        arguments: list[str] = []
        for name, value in self._identity.items():
            base, _, regexp = name.partition("_")
            arguments += [flags[base] + ("-regexp" if regexp else ""), value]
        return " of ".join(self._identity.values()), arguments

    @contextmanager
    def _settings(self) -> Iterator[list[str]]:
        """Yield the options that say which services sign.

        Raises:
            SignError: nobody could certify an identity.
        """
        if not self._key and not self._config and (self._urls or not self._log) and "fulcio_url" not in self._urls:
            raise SignError(
                "signing with cosign needs the option key, or, where the services are your own, fulcio_url: the "
                "certificate authority that knows who signs."
            )
        with tempfile.TemporaryDirectory(prefix="mfbazel-cosign-") as directory:
            own = self._config
            if not own and (self._urls or not self._log):
                own = _write(Path(directory, "signing.json"), _signing_config(self._urls))
            root = self._root
            if not root and not self._log:  # nobody has to be asked for one
                root = _write(Path(directory, "root.json"), _EMPTY_ROOT)
            yield [*(["--signing-config", own] if own else []), *(["--trusted-root", root] if root else [])]

    @contextmanager
    def _verification(self) -> Iterator[list[str]]:
        """Yield the options that say what a signature needs besides."""
        with tempfile.TemporaryDirectory(prefix="mfbazel-cosign-") as directory:
            root = self._root
            if not root and not self._log and self._public_key:
                root = _write(Path(directory, "root.json"), _EMPTY_ROOT)
            yield [
                *(["--trusted-root", root] if root else []),
                *([] if self._log else ["--insecure-ignore-tlog=true"]),
                *([] if self._certificate_log else ["--insecure-ignore-sct=true"]),
                *(["--use-signed-timestamps=true"] if self._timestamps else []),
            ]


def _finds_everything(name: str, value: str) -> bool:
    """Whether an option is a regular expression that is found in every text."""
    try:
        return name.endswith("_regexp") and re.search(value, "") is not None and re.search(value, "a text") is not None
    except re.error:  # cosign's syntax is another one
        return False


def _public_of(key: str) -> str:
    """Return what names the public key of ``key`` without being told."""
    if key.startswith(_KEY_SERVICES):
        return key
    if "://" in key or not key.endswith(".key"):
        return ""
    beside = Path(key).with_suffix(".pub")
    return str(beside) if beside.is_file() else ""


def _registry(target: Target) -> list[str]:
    """Return the options for the registry, as far as mfbazel allows what they do."""
    return [
        *(["--allow-http-registry=true"] if target.plain_http else []),
        *(["--allow-insecure-registry=true"] if target.insecure else []),
    ]


def _signing_config(urls: Mapping[str, str]) -> dict[str, Any]:
    """Return a signing configuration (Sigstore's protobuf specs, ``SigningConfig`` v0.2) of these services."""

    def services(name: str) -> list[dict[str, Any]]:
        if name not in urls:
            return []
        return [{"url": urls[name], "majorApiVersion": 1, "validFor": {"start": _SINCE}, "operator": "private"}]

    rekor, tsa = services("rekor_url"), services("timestamp_url")
    return {
        "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
        "caUrls": services("fulcio_url"),
        "rekorTlogUrls": rekor,
        "rekorTlogConfig": {"selector": "ANY"} if rekor else {},
        "tsaUrls": tsa,
        "tsaConfig": {"selector": "ANY"} if tsa else {},
    }


def _write(path: Path, content: Mapping[str, Any]) -> str:
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)
