"""Copying the images of a flow from one repository or registry to another, by digest: nothing is built or kept here.

The order is that of a push: blobs, manifests, what lists signatures and documents, tags, then ``images.json``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mfbazel.policy import (
    Rules,
    SigningRules,
    check_registry,
    parse_rules,
    parse_signing,
    refuse,
    workspace_registries,
    workspace_rules,
    workspace_signing,
)
from mfbazel.push.artifact import Artifact, plan_artifact, publish
from mfbazel.push.delivery import Content, Delivery
from mfbazel.push.engine import Engine
from mfbazel.push.errors import PushError
from mfbazel.push.flow import Pushed, Settings
from mfbazel.push.images import Images, Signed, parse_images, read_images
from mfbazel.push.journal import Journal
from mfbazel.push.promote_signing import carried, check_signed, verified_source
from mfbazel.push.promote_source import Referrer, Source
from mfbazel.push.registries import Registries
from mfbazel.push.report import Reporter, Summary, counted
from mfbazel.push.repository import Repository, parse_repository, parse_tag
from mfbazel.push.signing import sign_artifact
from mfbazel.push.workers import Workers
from mfbazel.registry import fetch_images, parse_reference
from mfbazel.registry.artifact import SCHEME
from mfbazel.registry.referrers import get_referrers, put_tagged_referrers
from mfbazel.registry.types import registry_type
from mfbazel.registry.upload import Outcome
from mfbazel.sign import Marks, Signing
from mfbazel.state import cache_dir, write_atomically

_STEP = "{step}"


@dataclass(frozen=True)
class Promotion:
    """What to copy, and where to.

    Attributes:
        images: the ``images.json`` of a push: a file, or ``oci://…`` of what was published.
        to: the repository; ``{step}`` in it stands for the step.
        label: of the flow; ``None``: what ``images`` says.
        workspace: its policy holds, ``None`` outside of one.
        output: where the new ``images.json`` is written.
        tags: each step's image is also tagged ``<step>-<tag>``, besides the tags that it has.
        artifact: whether the new ``images.json`` is published beside the images.
        referrers: whether signatures, SBOMs and the like are copied, too.
        signing: who signs the new ``images.json``, and signed the one that is promoted where a registry has that;
            ``None``: nobody.
    """

    images: str
    to: str
    label: str | None = None
    workspace: Path | None = None
    output: Path | None = None
    tags: Sequence[str] = ()
    artifact: bool = True
    referrers: bool = True
    signing: Signing | None = None


@dataclass(frozen=True)
class Promoted:
    """What a promotion did.

    Attributes:
        images: step to ``repository@sha256:…``.
        referrers: references of the signatures and documents that the target has.
        tags: tags that were set, ``repository:tag``.
        published: what ``MFBAZEL_IMAGES`` takes, when the new ``images.json`` is published.
        pushed: blobs and figures.
        signed: how many manifests were signed: the one that carries the new ``images.json``.
    """

    images: dict[str, str]
    referrers: tuple[str, ...]
    tags: tuple[str, ...]
    published: str | None
    pushed: Pushed
    signed: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return it for programs (``docs/push.md``)."""
        figures = {name: value for name, value in self.pushed.as_json().items() if name != "flows"}
        return {
            "images": self.images,
            "referrers": list(self.referrers),
            "tags": list(self.tags),
            "published": self.published,
            "signed": self.signed,
            "error": None,
            **figures,
        }


def promote(request: Promotion, settings: Settings, reporter: Reporter) -> Promoted:
    """Copy the images of a flow with what refers to them, tag them, and publish where they are now.

    Raises:
        mfbazel.errors.MfbazelError: the input is no record of a push, the policy does not allow the target, or a
            registry cannot be reached, refuses, or has other bytes. Tags and ``images.json`` are as they were then.
    """
    began = time.monotonic()
    source = request.images
    if request.signing and source.startswith(SCHEME):
        source = verified_source(source, request.signing, settings.insecure)
    images = read_record(source, settings.insecure)
    targets = _targets(request, images)
    _check_policy(request, images, targets)
    artifact = _artifact(request, images, targets) if request.artifact else None
    run = _Run(request, settings, reporter, images, targets, artifact)
    reporter.begin(", ".join(dict.fromkeys(map(str, targets.values()))), list(targets), verb="promoting")
    run.read()
    made = [step for step, entry in images.content["steps"].items() if entry.get("lock")]
    check_signed(_policies(request, images), run.deliveries, run.carried, made)
    return run.send(began)


def read_record(images: str, insecure: bool) -> Images:
    """Read the ``images.json`` of a push.

    Args:
        images: a file, or ``oci://…``.
        insecure: allow plain HTTP and unverifiable certificates.

    Raises:
        RegistryError: it cannot be fetched.
        PushError: it is none, or is the build's, which says of no image where it is.
    """
    if images.startswith(SCHEME):
        found = parse_images(fetch_images(images, insecure=insecure), images)
    else:
        found = read_images(Path(images))
    missing = [step for step in found.digests if step not in found.recorded_images()]
    if missing:
        raise PushError(
            f"{images} does not say where the images of {', '.join(missing)} are: it is the build's, and not that of a "
            "push. Push the flow first, or name what a push wrote (--output) or published (oci://…)."
        )
    return found


@dataclass
class _Run:
    """One promotion."""

    request: Promotion
    settings: Settings
    reporter: Reporter
    images: Images
    targets: Mapping[str, Repository]
    artifact: Artifact | None
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    referrers: dict[Repository, list[Referrer]] = field(default_factory=dict)
    carried: dict[str, Signed] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings = self.settings
        named = workspace_registries(self.request.workspace) if self.request.workspace else {}
        types = partial(registry_type, named=named)
        journal = Journal(cache_dir() / "uploads")
        journal.sweep()
        self._registries = Registries(journal, settings.insecure, settings.chunk, settings.create, types)
        self._workers = Workers(settings.jobs)
        self._places: dict[tuple[str, str], str] = {}
        self._signed = 0
        self._engine = Engine(
            self._registries, self.reporter, self._workers, {}, lambda host, digest: self._places.get((host, digest))
        )

    def read(self) -> None:
        """Read the manifests of everything that is copied."""
        sources: dict[tuple[str, Repository], Source] = {}
        for step, image in self.images.recorded_images().items():
            reference = parse_reference(image)
            place = Repository(reference.host, reference.path)
            client = self._registries.of(place.host).client
            sources.setdefault((str(place), self.targets[step]), Source(client, place, self.targets[step]))
        for step, delivery, error in self._workers.each(list(self.targets), partial(self._read_step, sources)):
            if error:
                raise error
            assert delivery
            self.deliveries[step], found = delivery
            self.carried[step] = carried(self.images.signed(step), self.deliveries[step], found)
            known = self.referrers.setdefault(self.targets[step], [])
            seen = {item.delivery.digest for item in known}
            known += [item for item in found if item.delivery.digest not in seen]
        self.deliveries = {step: self.deliveries[step] for step in self.targets}

    def _read_step(
        self, sources: Mapping[tuple[str, Repository], Source], step: str
    ) -> tuple[Delivery, list[Referrer]]:
        reference = parse_reference(self.images.recorded_images()[step])
        place = Repository(reference.host, reference.path)
        source = sources[str(place), self.targets[step]]
        tags = {parse_tag(tag, "images.json"): digest for tag, digest in self.images.tags[step].items()}
        digest = self.images.digests[step]
        tags |= {parse_tag(f"{step}-{tag}", "--tag"): digest for tag in self.request.tags}
        delivery = source.image(digest, tags, f"the image of the step {step!r}")
        found = source.referrers(delivery) if self.request.referrers else []
        for copied in (delivery, *(item.delivery for item in found)):
            self._places.update({(place.host, blob.digest): place.path for blob in copied.blobs})
        return delivery, found

    def send(self, began: float) -> Promoted:
        """Copy what the target lacks."""
        attached = [item.delivery for items in self.referrers.values() for item in items]
        everything = [*attached, *self.deliveries.values()]
        lacking = self._engine.lacking(everything)
        self._check()
        self.reporter.lacking(lacking)
        results = {step: delivery.reference for step, delivery in self.deliveries.items()}
        if self.settings.dry_run:
            absent = self._engine.absent(lacking)
            self._check()
            pushed = Pushed((), (), tuple(absent), self._summary(lacking, absent, began))
            self.reporter.end(pushed.summary, dry_run=True)
            return Promoted(results, tuple(item.reference for item in attached), (), None, pushed)
        self._engine.send_blobs(lacking)
        self._check()
        self._engine.send_manifests(lacking)
        self._check()
        self._list_referrers()
        tags = self._engine.set_tags(everything)
        self._check()
        for tag in tags:
            self.reporter.note(f"tagged {tag}")
        published = self._finish()
        for step, image in results.items():
            self.reporter.result(step, image)
        if attached:
            self.reporter.note(f"what refers to them: {counted(len(attached), 'manifest')}")
        pushed = Pushed((), tuple(self._engine.blobs), (), self._summary(lacking, [], began))
        self.reporter.end(pushed.summary)
        referrers = tuple(item.reference for item in attached)
        return Promoted(results, referrers, tuple(tags), published, pushed, self._signed)

    def _list_referrers(self) -> None:
        """Let the target list what refers to what, where it does not do that itself."""
        for repository, items in self.referrers.items():
            client = self._registries.of(repository.host).client
            subjects: dict[str, list[Mapping[str, Any]]] = {}
            for item in items:
                if item.subject:
                    subjects.setdefault(item.subject, []).append(item.descriptor)
            for subject, descriptors in subjects.items():
                if get_referrers(client, repository.path, subject) is None:
                    put_tagged_referrers(client, repository.path, subject, descriptors)

    def _finish(self) -> str | None:
        """Publish and write the new ``images.json``; return its reference."""
        repositories = {step: str(repository) for step, repository in self.targets.items()}
        content = self.images.pushed_to(repositories, self.carried)
        published = self._publish(self.artifact, content) if self.artifact else None
        if self.request.output:
            try:
                write_atomically(self.request.output, content)
            except OSError as error:
                raise PushError(
                    f"the images are promoted, but {self.request.output} cannot be written: {error.strerror or error}."
                ) from error
            self.reporter.note(f"wrote {self.request.output}")
        return published

    def _publish(self, artifact: Artifact, content: str) -> str:
        client, signing = self._registries.of(artifact.repository.host).client, self.request.signing
        if signing:
            done = sign_artifact(signing, artifact.repository, content.encode(), client, Marks(None))
            self._signed = done.signed
            self.reporter.attached(done)
        published = publish(artifact, content, client, None)
        reference = artifact.reference(published)
        self.reporter.published(reference, published)
        return reference

    def _check(self) -> None:
        """Raise what went wrong so far."""
        errors = list(dict.fromkeys(str(error) for error in self._engine.failures.values()))
        if errors:
            raise PushError("\n".join(errors))

    def _summary(
        self, lacking: Sequence[Delivery], absent: Sequence[tuple[Repository, Content]], began: float
    ) -> Summary:
        sent = [blob for blob in self._engine.blobs if blob.uploaded.outcome is Outcome.SENT]
        mounted = [blob for blob in self._engine.blobs if blob.uploaded.outcome is Outcome.MOUNTED]
        size = sum(blob.uploaded.sent for blob in sent) + sum(content.size for _, content in absent)
        images = {delivery.reference for delivery in self.deliveries.values()}
        pushed = len(images & {delivery.reference for delivery in lacking})
        seconds = time.monotonic() - began
        return Summary(len(images), pushed, len(sent) + len(absent), size, len(mounted), seconds)


def _artifact(request: Promotion, images: Images, targets: Mapping[str, Repository]) -> Artifact:
    """Return how the new ``images.json`` is called; before anything is sent, since it comes last."""
    label = request.label or images.label
    if not label:
        raise PushError(f"{request.images} names no label; say which flow it is with --label //package:name.")
    return plan_artifact(images, label, next(iter(targets.values())), request.tags)


def _targets(request: Promotion, images: Images) -> dict[str, Repository]:
    """Return where each step's image goes."""
    return {step: parse_repository(request.to.replace(_STEP, step.lower()), "option --to") for step in images.digests}


def _check_policy(request: Promotion, images: Images, targets: Mapping[str, Repository]) -> None:
    """Refuse a registry that the workspace's policy, or that of the record, does not allow."""
    for rules, _ in _policies(request, images):
        named = dict.fromkeys(map(str, targets.values()))
        found = [item for repository in named for item in check_registry(rules, "the repository", repository)]
        refuse(rules, "registries", found)


def _policies(request: Promotion, images: Images) -> Iterator[tuple[Rules, SigningRules]]:
    if request.workspace:
        yield workspace_rules(request.workspace), workspace_signing(request.workspace)
    recorded = images.content.get("policy")
    if isinstance(recorded, dict):
        yield parse_rules(recorded), parse_signing(recorded)
