"""What is signed and verified."""

from __future__ import annotations

from dataclasses import dataclass

from mfbazel.registry import Client, Reference


@dataclass(frozen=True)
class Target:
    """A manifest in a registry, by digest.

    Attributes:
        reference: ``host[:port]/path@sha256:…``.
        plain_http: whether the registry is spoken to without TLS; never so but on loopback, or where the user said
            ``--insecure``.
        insecure: whether the user said so: certificates need not be verifiable.
    """

    reference: str
    plain_http: bool = False
    insecure: bool = False


def target(client: Client, path: str, digest: str) -> Target:
    """Return the manifest ``digest`` in the repository ``path`` of the registry of ``client``.

    Raises:
        RegistryError: the registry cannot be reached.
    """
    reference = str(Reference(client.host, path, digest=digest))
    return Target(reference, client.speaks_plain_http(), client.insecure)
