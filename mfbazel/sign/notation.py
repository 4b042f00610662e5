"""The signer ``notation`` (Notary Project): a key of its list, or a plug-in of its own for a key service."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mfbazel.sign.errors import SignError, UnsignedError
from mfbazel.sign.options import Options
from mfbazel.sign.program import Finished, Program, find_program, first_found
from mfbazel.sign.target import Target

_OPTIONS = {
    "key": "name of a key in notation's list (`notation key list`); default: the one that is marked there",
    "plugin": "name of an installed plug-in of notation that signs, with `id`",
    "id": "what the plug-in calls the key",
    "signature_format": "jws or cose",
    "expiry": "how long the signature is good, such as 8760h",
    "timestamp_url": "a timestamping authority (RFC 3161), with `timestamp_root_cert`",
    "timestamp_root_cert": "file with its root certificate",
    "config_home": "directory that holds notation's configuration, `notation/`: trust policy, trust store, keys; "
    "default: the user's",
    "program": "path or name of notation",
}
_REGISTRY = (
    "notation takes credentials from docker's configuration and its helpers, or from NOTATION_USERNAME and "
    "NOTATION_PASSWORD: log in with `docker login` or `notation login`, and look whether the registry runs."
)
_SIGN_REASONS = (
    ("signing key not set", "Name one with the option `key`, or mark one: `notation key update --default NAME`."),
    ("not found", "`notation key list` says which keys and `notation plugin list` which plug-ins there are."),
    ("401", _REGISTRY),
    ("403", _REGISTRY),
    ("nauthorized", _REGISTRY),
    ("connection refused", _REGISTRY),
    ("404", "Push the image first: what is signed must be in the registry."),
)
_VERIFIED = "Successfully verified"
_NOT_AUTHENTIC = 'authenticity was set to "log" and failed'
_UNSIGNED = ("no signature is associated", "signature verification failed")
_VERIFY_REASONS = (
    ("no signature is associated", "Push it with the signer, or do not run it."),
    (
        "trust policy is not present",
        "Make one, and put it where the option `config_home` says, as notation/trustpolicy.json.",
    ),
    ("no applicable", "Let the trust policy name the repository in `registryScopes`."),
    ("signature verification failed", "Another key signed it than the trust policy and the trust store accept."),
    ("connection refused", _REGISTRY),
)


class Notation:
    """Signs with the program ``notation`` (1.2 or later), which stores signatures as referrers of what it signs.

    Who is trusted is in notation's own trust policy and trust store.
    """

    def __init__(self, options: Mapping[str, str], directory: Path) -> None:
        """Check the options; see ``_OPTIONS``.

        Raises:
            SignError: an option is unknown, or two contradict each other.
        """
        given = Options("notation", options, _OPTIONS, directory)
        self._program = given.program()
        if given.any("key") and given.any("plugin", "id"):
            raise SignError("the options of notation name a key of its list and a plug-in: take one away.")
        if given.any("plugin") != given.any("id"):
            raise SignError("the options plugin and id of notation go together.")
        if given.any("timestamp_url") != given.any("timestamp_root_cert"):
            raise SignError("the options timestamp_url and timestamp_root_cert of notation go together.")
        texts = {
            name: given.text(name) for name in ("key", "plugin", "id", "signature_format", "expiry", "timestamp_url")
        }
        texts["timestamp_root_cert"] = given.path("timestamp_root_cert")
        self._signing = [part for name, text in texts.items() if text for part in (f"--{name.replace('_', '-')}", text)]
        self._home = given.path("config_home")

    def sign(self, target: Target) -> None:
        """Sign ``target``; see :class:`mfbazel.sign.signer.Signer`."""
        # The referrers API where there is one: others do not look under the tag then.
        options = ["--force-referrers-tag=false", *self._signing, *_registry(target)]
        done = self._run("sign", *options, target.reference)
        if done.status:
            advice = first_found(done.said, _SIGN_REASONS, "notation's words say why.")
            raise SignError(f"notation cannot sign {target.reference}: {done.said}. {advice}")

    def verify(self, target: Target) -> str:
        """Check the signature of ``target``; see :class:`mfbazel.sign.signer.Signer`."""
        done = self._run("verify", *_registry(target), target.reference)
        if not done.status:
            self._check_level(target, done)
            return "who the trust policy names"
        advice = first_found(done.said, _VERIFY_REASONS, "notation's words say why.")
        if any(words in done.said for words in _UNSIGNED):
            raise UnsignedError(
                f"{target.reference} is not signed by who the trust policy names: {done.said}. {advice}"
            )
        raise SignError(f"notation cannot verify {target.reference}: {done.said}. {advice}")

    def _check_level(self, target: Target, done: Finished) -> None:
        """Refuse what notation only lets pass, since the level of its trust policy is ``skip`` or ``audit``."""
        strict = 'Set the level of its `signatureVerification` to "strict".'
        if _NOT_AUTHENTIC in done.said:
            raise UnsignedError(
                f"{target.reference} is not signed by who the trust policy names, which lets it pass: {done.said}. "
                f"{strict}"
            )
        if _VERIFIED not in done.output:
            raise SignError(f"notation verified nothing of {target.reference}: its trust policy skips it. {strict}")

    def _run(self, *arguments: str) -> Finished:
        environment = {"XDG_CONFIG_HOME": self._home} if self._home else {}
        return Program(find_program("notation", self._program), environment).run(*arguments)


def _registry(target: Target) -> list[str]:
    """Return the options for the registry, as far as mfbazel allows what they do."""
    return ["--insecure-registry"] if target.plain_http else []
