"""Names in registries: ``host[:port]/path:tag`` and ``host[:port]/path@sha256:…``."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from mfbazel.registry.errors import Failure, Kind, Subject, explain
from mfbazel.registry.redaction import redact

COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
"""A component of ``<name>`` (OCI distribution-spec 1.1, "Pulling manifests")."""
HOST = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*)"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
"""A tag (the same section)."""
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
LONGEST_NAME = 255
"""Clients limit host and path to so many characters (the specification's note)."""


@dataclass(frozen=True)
class Reference:
    """Names one manifest.

    Attributes:
        host: the registry, with the port if there is one.
        path: the repository.
        tag: the tag, or ``None``.
        digest: ``sha256:…``, or ``None``; where both are given, the digest counts.
    """

    host: str
    path: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        return f"{self.repository}{f':{self.tag}' if self.tag else ''}{f'@{self.digest}' if self.digest else ''}"

    @property
    def repository(self) -> str:
        """``host/path``."""
        return f"{self.host}/{self.path}"

    @property
    def name(self) -> str:
        """What names the manifest in its repository: the digest, else the tag, else ``latest``."""
        return self.digest or self.tag or "latest"


def parse_reference(text: str) -> Reference:
    """Split a reference, such as ``registry.example.com:5000/ml/churn@sha256:…``; ``oci://`` before it is allowed.

    Without tag and digest it means the tag ``latest``. The host is not optional: it has a dot or a port, or is
    ``localhost``.

    Raises:
        RegistryError: ``text`` does not follow the grammar of the OCI distribution specification.
    """
    rest = text.removeprefix("oci://")
    rest, at, digest = rest.partition("@")
    host, _, path = rest.partition("/")
    path, colon, tag = path.partition(":")
    problem = (
        (at and not DIGEST.fullmatch(digest) and "what follows '@' is no sha256 digest")
        or (colon and not TAG.fullmatch(tag) and f"{tag!r} is no tag")
        or _problem_of_host(host)
        or _problem_of_path(host, path)
    )
    if problem:
        subject = Subject(host, repr(_shown(text)))
        raise explain(Failure(Kind.REFERENCE, problem), subject)
    return Reference(host, path, tag or None, digest or None)


def _shown(text: str) -> str:
    """Return ``text`` without what may be a password before an ``@``."""
    if "@" not in text.partition("://")[0]:
        return redact(text)
    return "***@" if text.endswith("@") else text.rpartition("@")[2]


def is_loopback(host: str) -> bool:
    """Whether ``host``, with or without a port, is this machine by name or address alone."""
    match = HOST.fullmatch(host)
    name = match["host"].strip("[]").lower() if match else ""
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, 6.3
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _problem_of_host(host: str) -> str | None:
    match = HOST.fullmatch(host)
    if not match:
        return f"{redact(host)!r} is no host, optionally with a port"
    if "." not in host and ":" not in host and host.lower() != "localhost":
        return f"it has no host: {host!r} has neither a '.' nor a port"
    if match["port"] and not 0 < int(match["port"]) < 65536:
        return f"{match['port']} is no port"
    return None


def _problem_of_path(host: str, path: str) -> str | None:
    if not path:
        return "the path after the host is missing"
    for component in path.split("/"):
        if not COMPONENT.fullmatch(component):
            return f"the component {component!r} is not allowed"
    if len(host) + 1 + len(path) > LONGEST_NAME:
        return f"host and path have more than {LONGEST_NAME} characters"
    return None
