"""The registries of a push, each with its client, its type and its limits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from mfbazel.push.delivery import Content
from mfbazel.push.errors import PushError
from mfbazel.push.journal import Journal
from mfbazel.registry import Client, Kind, RegistryError
from mfbazel.registry.transport import Pace
from mfbazel.registry.types import RegistryType, registry_type
from mfbazel.registry.upload import Mount, OnPosition, Uploaded, Uploader

_PUSH_SECONDS = 120.0  # for a request that sends no blob, with its retries


class Registry:
    """One registry.

    Attributes:
        client: speaks to it.
        type: what it can do.
    """

    def __init__(
        self, host: str, kind: RegistryType, insecure: bool, journal: Journal, chunk: int | None, create: bool
    ) -> None:
        pace = Pace(kind.requests_per_second) if kind.requests_per_second else None
        self.client = Client(host, insecure, _PUSH_SECONDS, pace=pace)
        self.type = kind
        self._journal = journal
        self._create = create
        limits = [limit for limit in (chunk, self.type.chunk) if limit]
        self._uploader = Uploader(self.client, journal, min(limits) if limits and self.type.chunk else None)
        self._turns = threading.BoundedSemaphore(self.type.uploads_at_once)
        self._creating = threading.Lock()
        self._created: set[str] = set()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until another blob may be sent at the same time."""
        with self._turns:
            yield

    def alone(self, digest: str) -> AbstractContextManager[None]:
        """See :meth:`Journal.alone`."""
        return self._journal.alone(self.client.host, digest)

    def busy(self, digest: str) -> None:
        """See :meth:`Journal.busy`."""
        self._journal.busy(self.client.host, digest)

    def put(self, path: str, content: Content, on_position: OnPosition, mount: Mount | None) -> Uploaded:
        """See :meth:`Uploader.put`; makes the repository, if it is to and the registry wants that."""
        wanted = mount if self.type.mounts else None
        try:
            return self._uploader.put(path, content, on_position, wanted)
        except RegistryError as error:
            if error.problem.kind is not Kind.NO_REPOSITORY:
                raise
            if not self._made(path):
                advice = self.type.missing(self.client.host, path)
                raise (PushError(f"{error} {advice}") if advice else error) from None
        return self._uploader.put(path, content, on_position, wanted)

    def _made(self, path: str) -> bool:
        """Make a repository, once; return whether it is there now."""
        if not (self._create and self.type.create_repository):
            return False
        with self._creating:
            if path not in self._created:
                self.type.create_repository(self.client.host, path)
                self._created.add(path)
        return True


class Registries:
    """The registries of a run, each made when it is first named.

    Attributes:
        insecure: whether plain HTTP and unverifiable certificates are allowed.
    """

    def __init__(
        self,
        journal: Journal,
        insecure: bool = False,
        chunk: int | None = None,
        create: bool = False,
        types: Callable[[str], RegistryType] = registry_type,
    ) -> None:
        """Prepare, without any request.

        Args:
            journal: remembers uploads.
            insecure: allow plain HTTP and unverifiable certificates.
            chunk: the most bytes of one request, where the registry's type allows more.
            create: make repositories that are missing, where the registry's type can.
            types: says of a host which type it is.
        """
        self.insecure = insecure
        self._journal = journal
        self._chunk = chunk
        self._create = create
        self._types = types
        self._registries: dict[str, Registry] = {}
        self._lock = threading.Lock()

    def of(self, host: str) -> Registry:
        """Return the registry ``host``.

        Raises:
            RegistryError: a certificate that is kept for it cannot be used.
            RegistryTypeError: a plug-in cannot be used, or the type that is said of the host is none.
        """
        with self._lock:
            if host not in self._registries:
                kind = self._types(host)
                self._registries[host] = Registry(host, kind, self.insecure, self._journal, self._chunk, self._create)
            return self._registries[host]
