"""What registries of a kind can and cannot do, where that goes beyond the distribution specification."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class RegistryType:
    """A kind of registry.

    Attributes:
        name: how people call it.
        hosts: patterns (``fnmatch``) of the hosts that are of this kind.
        largest_blob: the most bytes that a blob may have; ``None`` without a limit.
        chunk: the most bytes that one request of an upload carries: what arrived in whole requests survives an
            interruption. ``None``: all in one, for registries that take no chunks.
        mounts: whether a blob of one repository can be had in another without sending it.
        uploads_at_once: how many blobs may be sent at the same time.
        create_repository: makes the repository ``path`` on ``host``, called when the registry says that it is missing;
            ``None`` where the first push makes it, or where people have to.
    """

    name: str
    hosts: tuple[str, ...] = ()
    largest_blob: int | None = None
    chunk: int | None = None
    mounts: bool = True
    uploads_at_once: int = 4
    create_repository: Callable[[str, str], None] | None = None


_CHUNK = 32 << 20

GENERIC = RegistryType("distribution", chunk=_CHUNK)
"""Any registry that follows the distribution specification."""


def registry_type(host: str) -> RegistryType:
    """Return the type of the registry ``host``."""
    del host
    return GENERIC
