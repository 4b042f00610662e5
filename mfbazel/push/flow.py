"""Pushing the step images of one flow, and recording them once the registry has confirmed every digest."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mfbazel.policy import check_registry, refuse, workspace_rules
from mfbazel.push.artifact import plan_artifact, publish
from mfbazel.push.crane import Crane, CraneError, Event
from mfbazel.push.diagnosis import explain
from mfbazel.push.embedded import EmbeddedRegistry
from mfbazel.push.errors import PushError
from mfbazel.push.images import Images, read_images
from mfbazel.push.layout import Layout, read_layout
from mfbazel.push.report import Reporter, Summary
from mfbazel.push.repository import Repository, clean_path, parse_repository, parse_tag
from mfbazel.state import images_path, parse_label, write_atomically

_CONFIRMATIONS_AT_ONCE = 4


@dataclass(frozen=True)
class FlowPush:
    """What to push, and where to.

    Attributes:
        images: the build's ``images.json``.
        layouts: step to OCI layout directory, in the order to print them; the same steps as in ``images``.
        crane: the program that pushes.
        workspace: the Bazel workspace, for the record's place.
        store: the embedded registry's directory.
        repository: takes precedence over what ``images`` says.
        label: takes precedence over what ``images`` says.
        output: where a copy of the record goes.
        tags: each step's image is also tagged ``<step>-<tag>``, besides the tags that ``images`` names.
        artifact: whether the record is published beside the images.
    """

    images: Path
    layouts: Mapping[str, Path]
    crane: Crane
    workspace: Path
    store: Path
    repository: str | None = None
    label: str | None = None
    output: Path | None = None
    tags: Sequence[str] = ()
    artifact: bool = True


@dataclass
class _Progress:
    """Counts while pushing; ``kept`` is the embedded registry, if it is the one pushed to."""

    reporter: Reporter
    kept: EmbeddedRegistry | None = None
    pushed: int = 0
    sent: dict[str, int] = field(default_factory=dict)


def push_flow(request: FlowPush, reporter: Reporter) -> dict[str, str]:
    """Push all step images of a flow and record them; return step to ``repository@sha256:…``.

    Images that the last record names are asked for by digest and, when the registry has them, left alone. The others
    are pushed one after the other, so that a blob shared by steps is sent once. Then the registry is asked for the
    digest of each, and only when all agree with the layouts is the record published beside them, and written.

    Raises:
        PushError: the input does not fit together, the repository's name is invalid, or the registry cannot be reached,
            refuses, or has another digest. Nothing is recorded then; what an earlier push recorded stays.
    """
    began = time.monotonic()
    images = read_images(request.images)
    layouts = _layouts(request, images)
    tags = {step: _tags(step, images, layout, request.tags) for step, layout in layouts.items()}
    label = request.label or images.label
    if not label:
        raise PushError(f"{request.images} names no label; say which flow it is with --label //package:name.")
    record = images_path(request.workspace, label)
    progress = _Progress(reporter)
    repositories = _repositories(request, images, label, progress)
    _check_registries(request.workspace, repositories, progress)
    first = next(iter(repositories.values()))
    artifact = plan_artifact(images, label, first, request.tags) if request.artifact else None
    reporter.begin(", ".join(dict.fromkeys(map(str, repositories.values()))), list(layouts))
    for repository in dict.fromkeys(repositories.values()):
        there = {step: layout for step, layout in layouts.items() if repositories[step] == repository}
        _push_missing(request.crane, repository, there, _recorded(record, repository), progress)
        wanted = {tag: digest for step in there for tag, digest in tags[step].items()}
        for tag in _tag(request.crane, repository, wanted):
            reporter.note(f"tagged {repository}:{tag}")
    for template in images.unstamped:
        reporter.note(
            f"the tag {template} is not set, since this build is not stamped: bazel run --stamp {label}.push", "yellow"
        )
    content = images.pushed_to({step: str(repository) for step, repository in repositories.items()})
    if artifact:
        published = publish(artifact, content, request.crane.insecure, progress.kept)
        reporter.published(artifact.reference(published), published)
    return _record(request, images, repositories, content, record, progress, began)


def _tags(step: str, images: Images, layout: Layout, given: Sequence[str]) -> dict[str, str]:
    """Return the tags of a step's image, and of the images of its platforms, with their digests."""
    tags = {parse_tag(tag, "attribute `remote_tags`"): digest for tag, digest in images.tags[step].items()}
    return {**tags, **{parse_tag(f"{step}-{tag}", "--tag"): layout.digest for tag in given}}


def _layouts(request: FlowPush, images: Images) -> dict[str, Layout]:
    """Read the layouts and compare them with ``images.json``; steps in the order of the layouts."""
    problems = [f"no --image for the step {step!r}" for step in images.digests if step not in request.layouts]
    problems += [f"--image for the unknown step {step!r}" for step in request.layouts if step not in images.digests]
    if problems:
        raise PushError(f"{request.images} and the --image options do not fit: {'; '.join(problems)}.")
    layouts = {step: read_layout(path) for step, path in request.layouts.items()}
    for step, layout in layouts.items():
        if layout.digest != images.digests[step]:
            raise PushError(
                f"digest mismatch for the step {step!r}: {request.images} says {images.digests[step]}, but the layout "
                f"{layout.path} holds {layout.digest}. They are of different builds; build the flow again."
            )
    return layouts


def _repositories(request: FlowPush, images: Images, label: str, progress: _Progress) -> dict[str, Repository]:
    """Return where to push each image: as told, as configured, else the embedded registry, started if need be."""
    if request.repository is not None:
        return dict.fromkeys(request.layouts, parse_repository(request.repository, "option --repository"))
    configured = {step: images.repositories[step] for step in request.layouts}
    if None not in configured.values():
        origin = f"attribute `repository` of {label}"
        return {step: parse_repository(str(value), origin) for step, value in configured.items()}
    registry = EmbeddedRegistry(request.store)
    ensured = registry.ensure(request.crane.program)
    progress.reporter.embedded(ensured, registry.store)
    progress.kept = registry
    return dict.fromkeys(request.layouts, Repository(ensured.running.host, clean_path(*parse_label(label))))


def _check_registries(workspace: Path, repositories: Mapping[str, Repository], progress: _Progress) -> None:
    """Refuse a registry that the policy of the workspace does not allow; the embedded one leaves no machine."""
    if progress.kept:
        return
    rules = workspace_rules(workspace)
    named = dict.fromkeys(map(str, repositories.values()))
    found = [item for repository in named for item in check_registry(rules, "the repository", repository)]
    refuse(rules, "registries", found)


def _recorded(record: Path, repository: Repository) -> set[str]:
    """Return the digests that the last push recorded for this repository; an unreadable record counts as none."""
    if not record.is_file():
        return set()
    try:
        images = read_images(record)
    except PushError:
        return set()
    recorded = images.recorded_images()
    return {digest for step, digest in images.digests.items() if recorded.get(step) == repository.by_digest(digest)}


def _push_missing(
    crane: Crane, repository: Repository, layouts: Mapping[str, Layout], recorded: set[str], progress: _Progress
) -> None:
    """Push what the registry does not confirm, then ask it to confirm that."""
    steps: dict[str, list[str]] = {}
    for step, layout in layouts.items():
        steps.setdefault(layout.digest, []).append(step)
    known = [digest for digest in steps if digest in recorded]
    present = _confirmed(crane, repository, known)
    missing = [digest for digest in steps if digest not in present]
    for digest in missing:
        _push_one(crane, repository, layouts[steps[digest][0]], steps[digest], progress)
    unconfirmed = sorted(set(missing) - _confirmed(crane, repository, missing))
    if unconfirmed:
        names = ", ".join(step for digest in unconfirmed for step in steps[digest])
        raise PushError(
            f"the registry {repository.host} accepted the images of {names}, but does not have "
            f"{repository.by_digest(unconfirmed[0])} afterwards. Nothing was recorded. Look at the registry's log, and "
            "whether it removes or rewrites images."
        )


def _push_one(crane: Crane, repository: Repository, layout: Layout, steps: Sequence[str], progress: _Progress) -> None:
    """Push the image of ``steps``."""
    sizes = {blob.digest: blob.size for blob in layout.blobs}

    def on_blob(event: Event, digest: str) -> None:
        size = sizes.get(digest, 0)
        if event is Event.PUSHED:
            progress.sent[digest] = size
        progress.reporter.blob(event, size, layout)

    progress.reporter.image_begins(steps, layout)
    try:
        if progress.kept:
            progress.sent.update(progress.kept.place_blobs(layout))
        crane.push(layout, repository.by_digest(layout.digest), on_blob)
    except CraneError as error:
        raise explain(error, f"pushing the image of {_named(steps)}", repository, layout) from error
    finally:
        progress.reporter.image_ends()
    progress.pushed += 1
    if progress.kept:
        progress.kept.keep_manifests(repository.path, layout)


def _confirmed(crane: Crane, repository: Repository, digests: Iterable[str]) -> set[str]:
    """Ask the registry for each digest; return those that it has."""

    def has(digest: str) -> bool:
        try:
            return crane.digest(repository.by_digest(digest)) == digest
        except CraneError as error:
            raise explain(error, "asking whether it has the images", repository) from error

    wanted = list(digests)
    with ThreadPoolExecutor(_CONFIRMATIONS_AT_ONCE) as pool:
        return {digest for digest, found in zip(wanted, pool.map(has, wanted), strict=True) if found}


def _tag(crane: Crane, repository: Repository, tags: Mapping[str, str]) -> list[str]:
    """Set the tags, tag to digest, that do not name the right image yet; return those."""
    done = []
    for tag, digest in tags.items():
        try:
            if crane.digest(f"{repository}:{tag}") != digest:
                crane.tag(repository, digest, tag)
                done.append(tag)
        except CraneError as error:
            raise explain(error, f"setting the tag {tag!r}", repository) from error
    return done


def _record(
    request: FlowPush,
    images: Images,
    repositories: Mapping[str, Repository],
    content: str,
    record: Path,
    progress: _Progress,
    began: float,
) -> dict[str, str]:
    """Write the record and its copy, print the results and return them."""
    for path in (record, *([request.output] if request.output else [])):
        try:
            write_atomically(path, content)
        except OSError as error:
            raise PushError(
                f"the images are pushed, but the record {path} cannot be written: {error.strerror or error}. Make room "
                "or allow writing there, then push again (nothing is sent twice)."
            ) from error
    results = {step: repositories[step].by_digest(images.digests[step]) for step in request.layouts}
    for step, image in results.items():
        progress.reporter.result(step, image)
    seconds = time.monotonic() - began
    confirmed = len(set(images.digests.values()))
    summary = Summary(progress.pushed, confirmed, len(progress.sent), sum(progress.sent.values()), seconds)
    progress.reporter.end(summary, record)
    return results


def _named(steps: Sequence[str]) -> str:
    """Return ``the step 'a'`` or ``the steps 'a', 'b'``."""
    return f"the step{'s' if len(steps) > 1 else ''} {', '.join(repr(step) for step in steps)}"
