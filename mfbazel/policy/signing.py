"""The table ``[signing]`` of ``mfbazel.toml``: what must be signed, by which signer, and with what attached."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfbazel.policy.checks import Violation
from mfbazel.policy.errors import PolicyError
from mfbazel.policy.patterns import takes_location
from mfbazel.policy.rules import FILE, read_document

KINDS = ("spdx", "cyclonedx", "provenance")
"""What can be asked to be attached."""
_KEYS = ("required", "signers", "attach")


@dataclass(frozen=True)
class SigningRules:
    """What must be signed.

    Attributes:
        required: locations of registries, ``host[:port]/path``, with everything below.
        signers: names of those that count there; empty for any.
        attach: kinds of documents that images there must have; of :data:`KINDS`.
    """

    required: tuple[str, ...] = ()
    signers: tuple[str, ...] = ()
    attach: tuple[str, ...] = ()

    def table(self) -> dict[str, Any]:
        """Return the table ``signing``, as :func:`parse_signing` reads it; empty when nothing must be signed."""
        said = {key: list(getattr(self, key)) for key in _KEYS if getattr(self, key)}
        return {"signing": said} if said else {}


def read_signing(path: Path | None) -> SigningRules:
    """Read the table of the policy ``path``; without one, nothing must be signed.

    Raises:
        PolicyError: the policy cannot be read, or its table says something else.
    """
    return SigningRules() if path is None else parse_signing(read_document(path))


def workspace_signing(workspace: Path) -> SigningRules:
    """Return the rules of the workspace; without a policy, nothing must be signed.

    Raises:
        PolicyError: the policy cannot be read, or its table says something else.
    """
    path = workspace / FILE
    return read_signing(path if path.is_file() else None)


def parse_signing(document: Mapping[str, Any]) -> SigningRules:
    """Return the table of ``document``, the content of a policy.

    Raises:
        PolicyError: it has an unknown key, or a value that is no list of what it should be.
    """
    table = document.get("signing", {})
    if not isinstance(table, dict):
        raise PolicyError(f"{FILE}: `signing` is not a table: write [signing]")
    if unknown := sorted(table.keys() - set(_KEYS)):
        raise PolicyError(f"{FILE}: [signing]: unknown key `{unknown[0]}`; there are {', '.join(_KEYS)}")
    for key, value in table.items():
        if not isinstance(value, list) or not all(isinstance(entry, str) and entry.strip() for entry in value):
            raise PolicyError(f"{FILE}: [signing]: `{key}` is not a list of strings that say something: {value!r}")
    if "signing" in document and not table.get("required"):
        raise PolicyError(f"{FILE}: [signing] says nothing without `required`: the registries where it holds")
    for kind in table.get("attach", ()):
        if kind not in KINDS:
            raise PolicyError(f"{FILE}: [signing]: `attach`: {kind!r} is none of {', '.join(KINDS)}")
    for entry in table.get("required", ()):
        if "://" in entry or "@" in entry:
            raise PolicyError(f"{FILE}: [signing]: `required`: write the host and the path of {entry!r} alone")
    return SigningRules(*(tuple(table.get(key, ())) for key in _KEYS))


def check_signing(
    rules: SigningRules, what: str, repository: str, signer: str | None, attached: Collection[str]
) -> list[Violation]:
    """Check how an image is pushed, or was pushed where it is launched.

    Args:
        rules: of the workspace.
        what: the image, for messages.
        repository: where it goes, ``host[:port]/path`` with or without tag and digest.
        signer: name of the signer, ``None`` for nobody.
        attached: kinds of the documents that it gets.
    """
    repository = repository.partition("@")[0]
    where = next((entry for entry in rules.required if takes_location(entry, repository)), None)
    if where is None:
        return []
    found = []
    rule = f"[signing] required of {FILE}, {where!r}"
    if signer is None:
        who = " or ".join(repr(name) for name in rules.signers) or "a signer"
        found.append(Violation(f"{what} in {repository}, unsigned", f"{rule}; the attribute `sign` names {who}"))
    elif rules.signers and signer not in rules.signers:
        found.append(Violation(f"{what} in {repository}, signed by {signer}", f"not in [signing] signers of {FILE}"))
    if missing := [kind for kind in rules.attach if kind not in attached]:
        text = f"[signing] attach of {FILE}; name it in the attribute `attach`"
        found.append(Violation(f"{what} in {repository}, without {', '.join(missing)}", text))
    return found
