"""Sending deliveries: blobs, then manifests and indexes, then tags; every byte once.

A blob that several images share, in one repository or in several of a registry, is sent once and mounted where it is
wanted besides. What fails concerns the deliveries that need it; the others go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mfbazel.errors import MfbazelError
from mfbazel.push.delivery import Content, ContentError, Delivery
from mfbazel.push.embedded import EmbeddedRegistry
from mfbazel.push.errors import PushError
from mfbazel.push.layout import hash_file
from mfbazel.push.registries import Registries, Registry
from mfbazel.push.report import Progress, human
from mfbazel.push.repository import Repository
from mfbazel.push.workers import Workers
from mfbazel.registry import Client, Kind, RegistryError
from mfbazel.registry.errors import Subject, describe
from mfbazel.registry.upload import Mount, Outcome, Uploaded

_OF_ONE_BLOB = (Kind.DIGEST, Kind.TOO_LARGE)
_BUSY_SECONDS = 1.0


@dataclass(frozen=True)
class BlobResult:
    """What became of a blob in a repository."""

    repository: Repository
    content: Content
    uploaded: Uploaded


@dataclass
class _Wanted:
    """A blob, the repositories of one registry that lack it, and the deliveries that need it there."""

    content: Content
    host: str
    deliveries: dict[Repository, list[Delivery]] = field(default_factory=dict)


class Engine:
    """Sends deliveries; the methods are called in their order.

    Attributes:
        failures: by :attr:`Delivery.reference`, why a delivery is not complete.
        blobs: what became of each blob.
    """

    def __init__(
        self,
        registries: Registries,
        progress: Progress,
        workers: Workers,
        kept: Mapping[str, EmbeddedRegistry],
        places: Callable[[str, str], str | None] = lambda _host, _digest: None,
        asleep: Collection[str] = (),
    ) -> None:
        """Prepare, without any request.

        Args:
            registries: the clients.
            progress: told what happens.
            workers: do it.
            kept: embedded registries by host.
            places: names a repository of a host that may have a digest, to mount it from.
            asleep: embedded registries that are not started, as a dry run leaves them.
        """
        self.failures: dict[str, MfbazelError] = {}
        self.blobs: list[BlobResult] = []
        self._registries = registries
        self._progress = progress
        self._workers = workers
        self._kept = kept
        self._places = places
        self._asleep = asleep
        self._present: dict[tuple[str, str], str] = {}
        self._broken: dict[Repository, MfbazelError] = {}
        self._lock = threading.Lock()

    def lacking(self, deliveries: Iterable[Delivery]) -> list[Delivery]:
        """Return the deliveries whose image the registry does not have: one request for each."""
        unique = {delivery.reference: delivery for delivery in deliveries}
        lacking = []

        def ask(delivery: Delivery) -> bool:
            if delivery.repository.host in self._asleep:
                return False
            found = self._client(delivery).usable_manifest(delivery.repository.path, delivery.digest)
            return found is not None

        for delivery, found, error in self._workers.each(unique.values(), ask):
            if error:
                self._fail([delivery], error, "asking for")
            elif not found:
                lacking.append(delivery)
            else:
                where = delivery.repository
                self._present.update({(where.host, blob.digest): where.path for blob in delivery.blobs})
        order = {reference: position for position, reference in enumerate(unique)}
        return sorted(lacking, key=lambda delivery: order[delivery.reference])

    def absent(self, deliveries: Sequence[Delivery]) -> list[tuple[Repository, Content]]:
        """Return the blobs that would be sent, without sending any."""

        def ask(wanted: _Wanted) -> list[Repository]:
            store = self._kept.get(wanted.host)
            if store and store.has_blob(wanted.content.digest, wanted.content.size):
                return []
            if wanted.host in self._asleep:
                return list(wanted.deliveries)[:1]
            registry = self._registries.of(wanted.host)
            usable = registry.client.usable_blob
            lacking = [place for place in wanted.deliveries if not usable(place.path, wanted.content.digest)]
            return lacking[:1] if registry.type.mounts else lacking

        found: list[tuple[Repository, Content]] = []
        for wanted, places, error in self._workers.each(self._wanted(deliveries), ask):
            if error:
                self._fail(_all(wanted), error, "asking for the blobs of")
            found += [(place, wanted.content) for place in places or []]
        return found

    def send_blobs(self, deliveries: Sequence[Delivery]) -> None:
        """Let the repositories have the blobs of ``deliveries``."""
        self._check_sizes(deliveries)
        wanted = sorted(self._wanted(deliveries), key=lambda blob: -blob.content.size)
        with self._progress.sending(len(wanted), sum(blob.content.size for blob in wanted)):
            for blob, results, error in self._workers.each(wanted, self._send_blob):
                if error:
                    raise error  # a defect: what is expected is recorded
                self.blobs += results or []
                self._progress.blob_ends(blob.content, [result.uploaded for result in results or []])

    def send_manifests(self, deliveries: Sequence[Delivery]) -> None:
        """Upload the manifests of the deliveries whose blobs are there, and let the registry confirm them."""

        def put(delivery: Delivery) -> None:
            client, path = self._client(delivery), delivery.repository.path
            for manifest in delivery.manifests:
                client.put_manifest(path, manifest.digest, manifest.data, manifest.media_type)
            if client.head_manifest(path, delivery.digest) is None:
                raise PushError(
                    f"the registry {client.host} accepted {delivery.what}, but does not have {delivery.reference} "
                    "afterwards. Nothing was recorded. Look at the registry's log, and whether it removes or rewrites "
                    "images."
                )
            if store := self._kept.get(client.host):
                for manifest in delivery.manifests:
                    store.keep_manifest(path, manifest.digest, manifest.data)

        for delivery, _, error in self._workers.each(self.complete(deliveries), put):
            if error:
                self._fail([delivery], error, "pushing")

    def set_tags(self, deliveries: Sequence[Delivery]) -> list[str]:
        """Let the tags of the complete deliveries name their images; return those that did not, as references."""
        wanted = {
            (delivery.repository, tag): (delivery, digest)
            for delivery in self.complete(deliveries)
            for tag, digest in delivery.tags.items()
        }

        def put(item: tuple[Repository, str]) -> bool:
            delivery, digest = wanted[item]
            client, path, tag = self._client(delivery), delivery.repository.path, item[1]
            found = client.usable_manifest(path, tag)
            if found and found.digest == digest:
                return False
            manifest = next((one for one in delivery.manifests if one.digest == digest), None)
            if manifest is None:
                raise PushError(
                    f"the tag {tag} is to name {digest}, which is no manifest of {delivery.what} "
                    f"({delivery.reference}): its images.json is of another build, or changed. Build and push again."
                )
            client.put_manifest(path, tag, manifest.data, manifest.media_type)
            return True

        done = set()
        for item, was_set, error in self._workers.each(wanted, put):
            if error:
                self._fail([wanted[item][0]], error, f"setting the tag {item[1]} of")
            elif was_set:
                done.add(item)
        return [f"{repository}:{tag}" for repository, tag in wanted if (repository, tag) in done]

    def complete(self, deliveries: Iterable[Delivery]) -> list[Delivery]:
        """Return the deliveries that nothing is known to be wrong with."""
        return [delivery for delivery in deliveries if delivery.reference not in self.failures]

    def _client(self, delivery: Delivery) -> Client:
        return self._registries.of(delivery.repository.host).client

    def _wanted(self, deliveries: Sequence[Delivery]) -> list[_Wanted]:
        """Return the blobs of the deliveries that can still succeed, each digest of a registry once."""
        found: dict[tuple[str, str], _Wanted] = {}
        for delivery in self.complete(deliveries):
            host = delivery.repository.host
            for content in delivery.blobs:
                wanted = found.setdefault((host, content.digest), _Wanted(content, host))
                wanted.deliveries.setdefault(delivery.repository, []).append(delivery)
        return list(found.values())

    def _check_sizes(self, deliveries: Sequence[Delivery]) -> None:
        """Refuse blobs that a registry is known not to take, before anything is sent."""
        for blob in self._wanted(deliveries):
            kind = self._registries.of(blob.host).type
            if kind.largest_blob is not None and blob.content.size > kind.largest_blob:
                error = PushError(
                    f"the layer {blob.content.digest} has {human(blob.content.size)}, and {blob.host} ({kind.name}) "
                    f"takes at most {human(kind.largest_blob)} in one. Give its packages more layers (attribute "
                    "`budget`), split the wheel, or push elsewhere."
                )
                self._fail(_all(blob), error, "pushing")

    def _send_blob(self, blob: _Wanted) -> list[BlobResult]:
        """Let the repositories have one blob; what fails is recorded with the deliveries that need it."""
        registry = self._registries.of(blob.host)
        results: list[BlobResult] = []
        with registry.turn(), registry.alone(blob.content.digest):
            self._progress.blob_begins(blob.content)
            digest = blob.content.digest
            place = self._present.get((blob.host, digest)) or self._places(blob.host, digest)
            mount = Mount(place) if place else None
            for repository, deliveries in blob.deliveries.items():
                try:
                    uploaded = self._put(registry, repository, blob.content, mount)
                except MfbazelError as error:
                    self._fail(deliveries, error, "pushing", blob.content)
                    if not _is_of_one_blob(error):
                        self._broken.setdefault(repository, error)
                else:
                    mount = Mount(repository.path, certain=True)
                    results.append(BlobResult(repository, blob.content, uploaded))
        return results

    def _put(self, registry: Registry, repository: Repository, content: Content, mount: Mount | None) -> Uploaded:
        """Let one repository have one blob."""
        if broken := self._broken.get(repository):
            raise broken

        told = time.monotonic()

        def on_position(position: int) -> None:
            nonlocal told
            self._workers.check()
            self._progress.blob_moves(content, position)
            if time.monotonic() - told > _BUSY_SECONDS:
                registry.busy(content.digest)
                told = time.monotonic()

        store = self._kept.get(repository.host)
        placed = bool(store and store.place_blob(content, on_position))
        uploaded = registry.put(repository.path, content, on_position, mount)
        return Uploaded(Outcome.SENT, content.size) if placed else uploaded

    def _fail(
        self, deliveries: Sequence[Delivery], error: BaseException, doing: str, content: Content | None = None
    ) -> None:
        """Record why deliveries are not complete; the first reason counts."""
        if not isinstance(error, MfbazelError):
            raise error
        for delivery in deliveries:
            told = _told(error, f"{doing} {delivery.what}", delivery, content)
            with self._lock:
                self.failures.setdefault(delivery.reference, told)


def _is_of_one_blob(error: MfbazelError) -> bool:
    """Whether a failure says nothing about the next blob."""
    if isinstance(error, RegistryError):
        return error.problem.kind in _OF_ONE_BLOB
    return isinstance(error, ContentError)


def _all(wanted: _Wanted) -> list[Delivery]:
    return [delivery for deliveries in wanted.deliveries.values() for delivery in deliveries]


def _hashed(file: Path) -> str | None:
    try:
        return hash_file(file)
    except OSError:
        return None


def _told(error: MfbazelError, doing: str, delivery: Delivery, content: Content | None) -> MfbazelError:
    """Return the error with what it means for a delivery."""
    if not isinstance(error, RegistryError):
        return error
    if content and error.problem.kind is Kind.DIGEST and content.file:
        found = _hashed(content.file)
        if found and found != content.digest:
            return PushError(
                f"digest mismatch while {doing} to {delivery.repository}: the blob {content.origin} has the digest "
                f"{found}, but its name says {content.digest}. The file was changed after the build; build the image "
                "again (if Bazel does not, remove the file from its output or disk cache). Nothing was recorded."
            )
    subject = Subject(delivery.repository.host, str(delivery.repository), writes=True)
    happened, advice = describe(error.problem.kind, subject)
    return PushError(f"{happened}, while {doing} ({error.problem.said}). {advice} Nothing was recorded.")
