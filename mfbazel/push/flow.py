"""Pushing the step images of flows, and recording them once the registries have confirmed every digest."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mfbazel.errors import MfbazelError
from mfbazel.policy import workspace_registries
from mfbazel.push.artifact import publish
from mfbazel.push.delivery import Content, Delivery
from mfbazel.push.embedded import EmbeddedRegistry, find_crane
from mfbazel.push.engine import BlobResult, Engine
from mfbazel.push.errors import PushError
from mfbazel.push.journal import Journal
from mfbazel.push.places import Places
from mfbazel.push.prepare import (
    Claim,
    FlowPush,
    Prepared,
    claim_tags,
    prepare,
    read_flow,
    wants_embedded,
)
from mfbazel.push.registries import Registries
from mfbazel.push.report import Reporter, Summary
from mfbazel.push.repository import Repository
from mfbazel.push.signing import attach_images, confirm_artifact, sign_artifact, signed_image
from mfbazel.push.workers import Workers
from mfbazel.registry.types import registry_type
from mfbazel.registry.upload import Outcome
from mfbazel.sign import Marks
from mfbazel.sign import Outcome as Attached
from mfbazel.sign.marks import FILE as SIGNED
from mfbazel.state import cache_dir, write_atomically

_NOT_STARTED = "127.0.0.1:0"
"""Stands for the embedded registry in a dry run, which does not start it."""


@dataclass(frozen=True)
class Settings:
    """How to push.

    Attributes:
        insecure: allow plain HTTP and unverifiable certificates.
        jobs: how many requests are made at once; a registry's type may allow fewer uploads.
        chunk: the most bytes of one request of an upload, ``None`` for what the registry's type says.
        create: make repositories that are missing, where the registry's type can.
        dry_run: send nothing; say what would be sent.
    """

    insecure: bool = False
    jobs: int = 8
    chunk: int | None = None
    create: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class FlowResult:
    """What became of one flow.

    Attributes:
        label: of the flow.
        images: step to ``repository@sha256:…``.
        error: why it is not pushed; nothing is recorded then.
        tags: tags that were set, ``repository:tag``.
        published: what ``MFBAZEL_IMAGES`` takes, when the record is published.
        record: the file that was written.
        done: what was attached and signed.
    """

    label: str
    images: dict[str, str] = field(default_factory=dict)
    error: MfbazelError | None = None
    tags: tuple[str, ...] = ()
    published: str | None = None
    record: Path | None = None
    done: Attached = field(default_factory=Attached)


@dataclass(frozen=True)
class Pushed:
    """What a push did, or in a dry run would do.

    Attributes:
        flows: in the order of the requests.
        blobs: what became of each blob; not of those of images that the registries had already.
        absent: blobs that a dry run would send, and where to.
        summary: figures.
    """

    flows: tuple[FlowResult, ...]
    blobs: tuple[BlobResult, ...]
    absent: tuple[tuple[Repository, Content], ...]
    summary: Summary

    def as_json(self) -> dict[str, Any]:
        """Return it for programs (``docs/push.md``)."""
        blobs = [
            {
                "repository": str(blob.repository),
                "digest": blob.content.digest,
                "size": blob.content.size,
                "outcome": blob.uploaded.outcome.value,
                "sent": blob.uploaded.sent,
                "resumed": blob.uploaded.resumed,
            }
            for blob in self.blobs
        ]
        absent = [
            {"repository": str(repository), "digest": content.digest, "size": content.size, "outcome": "would be sent"}
            for repository, content in self.absent
        ]
        return {
            "flows": [_flow_json(flow) for flow in self.flows],
            "blobs": [*blobs, *absent],
            "error": None,
            "sent_bytes": self.summary.sent_bytes,
            "seconds": round(self.summary.seconds, 3),
        }


def push_flow(request: FlowPush, settings: Settings, reporter: Reporter) -> Pushed:
    """Push all step images of a flow and record them; see :func:`push_flows`.

    Raises:
        PushError: the input does not fit together, the repository's name is invalid, or the registry cannot be reached,
            refuses, or has another digest. Nothing is recorded then; what an earlier push recorded stays.
    """
    pushed = push_flows([request], settings, reporter)
    if error := pushed.flows[0].error:
        raise error
    return pushed


def push_flows(requests: Sequence[FlowPush], settings: Settings, reporter: Reporter) -> Pushed:
    """Push the step images of several flows in one run, and record each flow whose images are all there.

    Every image is asked for by digest and, when the registry has it, left alone. Of the others, blobs are sent first,
    each once for all images of all flows, then manifests and indexes, what is attached to them and signatures, then
    tags; at last the record of each flow is published beside its images, and written. A flow that fails does not keep
    the others from being pushed.
    """
    began = time.monotonic()
    run = _Run(requests, settings, reporter)
    lacking = run.engine.lacking(run.deliveries())
    reporter.lacking(lacking)
    absent: list[tuple[Repository, Content]] = []
    if settings.dry_run:
        absent = run.engine.absent(lacking)
        results = [run.preview(flow) for flow in run.flows]
    else:
        run.engine.send_blobs(lacking)
        run.engine.send_manifests(lacking)
        run.attach(lacking)
        tagged = run.engine.set_tags(run.deliveries())
        for tag in tagged:
            reporter.note(f"tagged {tag}")
        results = [run.finish(flow, tagged) for flow in run.flows]
    summary = run.summary(lacking, absent, time.monotonic() - began)
    ordered = sorted([*run.refused, *results], key=lambda result: run.order[result.label])
    if any(not result.error for result in ordered):
        reporter.end(summary, settings.dry_run)
    return Pushed(tuple(ordered), tuple(run.engine.blobs), tuple(absent), summary)


class _Run:
    """One run over several flows.

    Attributes:
        flows: those that are ready to be pushed.
        refused: those that are not, with the reason.
        order: label to position.
        engine: sends.
    """

    def __init__(self, requests: Sequence[FlowPush], settings: Settings, reporter: Reporter) -> None:
        self._settings = settings
        self._reporter = reporter
        self._kept: dict[str, EmbeddedRegistry] = {}
        self._stores: dict[Path, str] = {}
        self.flows: list[Prepared] = []
        self.refused: list[FlowResult] = []
        self.order: dict[str, int] = {}
        self._unsigned: dict[str, MfbazelError] = {}
        self._marks: dict[str, Marks] = {}
        self._done: dict[str, Attached] = {}
        self._tags: dict[str, Claim] = {}
        for request in requests:
            self._add(request)
        journal = Journal(cache_dir() / "uploads")
        journal.sweep()
        types = partial(registry_type, named=workspace_registries(requests[0].workspace))
        self._registries = Registries(journal, settings.insecure, settings.chunk, settings.create, types)
        places = Places(requests[0].workspace)
        self.engine = Engine(self._registries, reporter, Workers(settings.jobs), self._kept, places, (_NOT_STARTED,))

    def deliveries(self) -> list[Delivery]:
        """Return what is pushed of the flows that nothing is known to be wrong with."""
        return [delivery for flow in self.flows if not self._error(flow) for delivery in flow.deliveries.values()]

    def preview(self, flow: Prepared) -> FlowResult:
        """Say what would be pushed of a flow."""
        if error := self._error(flow):
            return FlowResult(flow.label, error=error)
        images = {
            step: delivery.reference.replace(_NOT_STARTED, "<embedded registry>")
            for step, delivery in flow.deliveries.items()
        }
        for step, image in images.items():
            self._reporter.result(step, image)
        return FlowResult(flow.label, images)

    def attach(self, lacking: Collection[Delivery]) -> None:
        """Attach documents and sign, of the flows whose images are all there; the registry did not have ``lacking``."""
        sent = {delivery.reference for delivery in lacking}
        for flow in self.flows:
            if flow.attachments and not self._error(flow):
                try:
                    self._attach(flow, sent)
                except MfbazelError as error:
                    self._unsigned[flow.label] = error

    def _attach(self, flow: Prepared, sent: Collection[str]) -> None:
        marks = self._marks[flow.label] = Marks(None if self._is_embedded(flow) else flow.record.with_name(SIGNED))
        for repository in flow.repositories:
            there = [delivery for delivery in flow.deliveries.values() if delivery.repository == repository]
            present = {delivery.digest for delivery in there if delivery.reference not in sent}
            client = self._registries.of(repository.host).client
            self._note_done(flow, attach_images(flow.attachments, repository, there, client, marks, present))

    def _note_done(self, flow: Prepared, done: Attached) -> None:
        self._done[flow.label] = self._done.get(flow.label, Attached()) + done

    def _is_embedded(self, flow: Prepared) -> bool:
        """Whether a flow goes to an embedded registry, which forgets what others wrote when it starts again."""
        return any(repository.host in self._kept for repository in flow.repositories)

    def finish(self, flow: Prepared, tagged: Sequence[str]) -> FlowResult:
        """Publish and record a flow whose images are all there."""
        try:
            return self._finish(flow, tagged)
        except MfbazelError as error:
            return FlowResult(flow.label, error=error)

    def summary(
        self, lacking: Sequence[Delivery], absent: Sequence[tuple[Repository, Content]], seconds: float
    ) -> Summary:
        """Return the figures."""
        complete = self.engine.complete
        sent = [blob for blob in self.engine.blobs if blob.uploaded.outcome is Outcome.SENT]
        mounted = [blob for blob in self.engine.blobs if blob.uploaded.outcome is Outcome.MOUNTED]
        size = sum(blob.uploaded.sent for blob in sent) + sum(content.size for _, content in absent)
        images = {delivery.reference for delivery in complete(self.deliveries())}
        return Summary(len(images), len(complete(lacking)), len(sent) + len(absent), size, len(mounted), seconds)

    def _add(self, request: FlowPush) -> None:
        """Prepare a flow, or record why that cannot be."""
        label = request.label or str(request.images)
        try:
            images, label = read_flow(request)
            embedded = self._embedded(request) if wants_embedded(request, images) else None
            flow = prepare(request, images, label, embedded)
            self._tags.update(claim_tags(flow, self._tags))
        except MfbazelError as error:
            self.refused.append(FlowResult(label, error=error))
        else:
            self.flows.append(flow)
            where = ", ".join(map(str, flow.repositories)).replace(_NOT_STARTED, "the embedded registry")
            self._reporter.begin(where, list(flow.deliveries))
        self.order[label] = len(self.order)

    def _embedded(self, request: FlowPush) -> str:
        """Return ``host:port`` of the embedded registry, started if need be."""
        if request.store not in self._stores:
            registry = EmbeddedRegistry(request.store)
            if self._settings.dry_run:
                running = registry.status()
                host = running.host if running else _NOT_STARTED
            else:
                ensured = registry.ensure(find_crane(request.crane))
                self._reporter.embedded(ensured, registry.store)
                host = ensured.running.host
            self._stores[request.store] = host
            self._kept[host] = registry
        return self._stores[request.store]

    def _error(self, flow: Prepared) -> MfbazelError | None:
        """Return why a flow cannot be completed."""
        if flow.label in self._unsigned:
            return self._unsigned[flow.label]
        failures = (self.engine.failures.get(delivery.reference) for delivery in flow.deliveries.values())
        return next((error for error in failures if error), None)

    def _finish(self, flow: Prepared, tagged: Sequence[str]) -> FlowResult:
        if error := self._error(flow):
            raise error
        for template in flow.images.unstamped:
            self._reporter.note(
                f"the tag {template} is not set, since this build is not stamped: bazel run --stamp {flow.label}.push",
                "yellow",
            )
        repositories = {step: str(delivery.repository) for step, delivery in flow.deliveries.items()}
        signed = {step: signed_image(flow.attachments, delivery) for step, delivery in flow.deliveries.items()}
        content = flow.images.pushed_to(repositories, signed)
        published = self._publish(flow, content)
        _record(flow, content)
        if marks := self._marks.get(flow.label):
            marks.write()
        done = self._done.get(flow.label, Attached())
        if flow.attachments:
            self._reporter.attached(done)
        images = {step: delivery.reference for step, delivery in flow.deliveries.items()}
        for step, image in images.items():
            self._reporter.result(step, image)
        self._reporter.note(f"recorded in {flow.record}")
        own = {f"{delivery.repository}:{tag}" for delivery in flow.deliveries.values() for tag in delivery.tags}
        tags = tuple(tag for tag in tagged if tag in own)
        return FlowResult(flow.label, images, None, tags, published, flow.record, done)

    def _publish(self, flow: Prepared, content: str) -> str | None:
        """Publish the record beside the images; return its reference."""
        if not flow.artifact:
            return None
        repository, signing = flow.artifact.repository, flow.attachments.signing
        client, data = self._registries.of(repository.host).client, content.encode()
        marks = self._marks.get(flow.label, Marks(None))
        if signing:
            self._note_done(flow, sign_artifact(signing, repository, data, client, marks))
        published = publish(flow.artifact, content, client, self._kept.get(repository.host))
        if signing:
            self._note_done(flow, confirm_artifact(signing, repository, data, published, client, marks))
        reference = flow.artifact.reference(published)
        self._reporter.published(reference, published)
        return reference


def _record(flow: Prepared, content: str) -> None:
    """Write the record."""
    for path in (flow.record, *([flow.request.output] if flow.request.output else [])):
        try:
            write_atomically(path, content)
        except OSError as error:
            raise PushError(
                f"the images are pushed, but the record {path} cannot be written: {error.strerror or error}. Make room "
                "or allow writing there, then push again (nothing is sent twice)."
            ) from error


def _flow_json(flow: FlowResult) -> dict[str, Any]:
    return {
        "label": flow.label,
        "images": flow.images,
        "tags": list(flow.tags),
        "published": flow.published,
        "record": str(flow.record) if flow.record else None,
        "attached": flow.done.attached,
        "signed": flow.done.signed,
        "error": str(flow.error) if flow.error else None,
    }
