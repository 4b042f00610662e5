"""From the build's output to deliveries: what is pushed, where to, under which tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mfbazel.policy import check_registry, refuse, workspace_rules
from mfbazel.push.artifact import Artifact, plan_artifact
from mfbazel.push.delivery import Delivery, deliver
from mfbazel.push.errors import PushError
from mfbazel.push.images import Images, read_images
from mfbazel.push.layout import Layout, read_layout
from mfbazel.push.repository import Repository, clean_path, parse_repository, parse_tag
from mfbazel.push.signing import Attachments, check_attachments, plan_attachments
from mfbazel.state import images_path, parse_label


@dataclass(frozen=True)
class FlowPush:
    """What to push of one flow, and where to.

    Attributes:
        images: the build's ``images.json``.
        layouts: step to OCI layout directory, in the order to print them; the same steps as in ``images``.
        workspace: the Bazel workspace, for the record's place.
        store: the embedded registry's directory.
        crane: the program that serves the embedded registry; ``None``: the one on PATH.
        repository: takes precedence over what ``images`` says.
        label: takes precedence over what ``images`` says.
        output: where a copy of the record goes.
        tags: each step's image is also tagged ``<step>-<tag>``, besides the tags that ``images`` names.
        artifact: whether the record is published beside the images.
        sign: name of the signer, ``None`` for none.
        sign_options: of the signer; no secrets.
        attach: documents that become referrers of the images that they are about.
    """

    images: Path
    layouts: Mapping[str, Path]
    workspace: Path
    store: Path
    crane: str | None = None
    repository: str | None = None
    label: str | None = None
    output: Path | None = None
    tags: Sequence[str] = ()
    artifact: bool = True
    sign: str | None = None
    sign_options: Mapping[str, str] = field(default_factory=dict)
    attach: Sequence[Path] = ()


@dataclass(frozen=True)
class Prepared:
    """A flow that is ready to be pushed.

    Attributes:
        request: what was asked for.
        images: the build's ``images.json``.
        label: of the flow.
        record: where the push is recorded.
        deliveries: step to its image and where it goes.
        artifact: how the record is published, ``None`` when it is not.
        attachments: what the images get besides.
    """

    request: FlowPush
    images: Images
    label: str
    record: Path
    deliveries: Mapping[str, Delivery]
    artifact: Artifact | None
    attachments: Attachments = field(default_factory=Attachments)

    @property
    def repositories(self) -> list[Repository]:
        """Where the images go, each once."""
        return list(dict.fromkeys(delivery.repository for delivery in self.deliveries.values()))


@dataclass(frozen=True)
class Claim:
    """A tag that a flow sets.

    Attributes:
        named: what it names: a digest, or a label for the ``images.json`` of that flow.
        what: the same for messages.
    """

    named: str
    what: str


def claim_tags(flow: Prepared, taken: Mapping[str, Claim]) -> dict[str, Claim]:
    """Return the tags that a flow sets, as references.

    Raises:
        PushError: one of them is ``taken`` by another flow of the run, for something else: the last one would stay.
    """
    claims = {
        f"{delivery.repository}:{tag}": Claim(digest, f"{delivery.what} of {flow.label}")
        for delivery in flow.deliveries.values()
        for tag, digest in delivery.tags.items()
    }
    if artifact := flow.artifact:
        own = Claim(flow.label, f"the images.json of {flow.label}")
        claims |= {f"{artifact.repository}:{tag}": own for tag in artifact.tags}
    for tag, claim in claims.items():
        other = taken.get(tag, claim)
        if other.named != claim.named:
            raise PushError(
                f"the tag {tag} would name {other.what} and {claim.what}, which are pushed in one run. Give each flow "
                "a repository of its own (`{flow}` in the attribute `repository`), or other tags (`remote_tags`)."
            )
    return claims


def read_flow(request: FlowPush) -> tuple[Images, str]:
    """Return the build's ``images.json`` and the flow's label.

    Raises:
        PushError: the file is missing or none, or there is no label.
    """
    images = read_images(request.images)
    label = request.label or images.label
    if not label:
        raise PushError(f"{request.images} names no label; say which flow it is with --label //package:name.")
    return images, label


def wants_embedded(request: FlowPush, images: Images) -> bool:
    """Whether the flow goes to the embedded registry: neither the request nor the build names a repository."""
    return request.repository is None and None in images.repositories.values()


def prepare(request: FlowPush, images: Images, label: str, embedded: str | None) -> Prepared:
    """Compare the layouts with ``images.json`` and say what goes where.

    Args:
        request: what to push.
        images: see :func:`read_flow`.
        label: see :func:`read_flow`.
        embedded: ``host:port`` of the embedded registry, where the flow goes there.

    Raises:
        PushError: the input does not fit together, or a name is invalid.
        PolicyError: the policy of the workspace does not allow a registry.
        SignError: the signer or a document cannot be used.
    """
    layouts = _layouts(request, images)
    tags = {step: _tags(step, images, layout, request.tags) for step, layout in layouts.items()}
    repositories = _repositories(request, images, label, embedded)
    if not embedded:
        _check_registries(request.workspace, repositories)
    steps: dict[str, list[str]] = {}
    for step, layout in layouts.items():
        steps.setdefault(layout.digest, []).append(step)
    deliveries = {
        step: deliver(layout, repositories[step], tags[step], f"the image of {_named(steps[layout.digest])}")
        for step, layout in layouts.items()
    }
    first = next(iter(repositories.values()))
    artifact = plan_artifact(images, label, first, request.tags) if request.artifact else None
    attachments = plan_attachments(
        request.sign, request.sign_options, request.attach, deliveries.values(), request.workspace
    )
    if not embedded:
        made = [step for step, entry in images.content["steps"].items() if entry.get("lock")]
        check_attachments(request.workspace, attachments, deliveries, made)
    return Prepared(request, images, label, images_path(request.workspace, label), deliveries, artifact, attachments)


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


def _repositories(request: FlowPush, images: Images, label: str, embedded: str | None) -> dict[str, Repository]:
    """Return where to push each image: as told, as configured, else the embedded registry."""
    if request.repository is not None:
        return dict.fromkeys(request.layouts, parse_repository(request.repository, "option --repository"))
    if embedded:
        return dict.fromkeys(request.layouts, Repository(embedded, clean_path(*parse_label(label))))
    origin = f"attribute `repository` of {label}"
    return {step: parse_repository(str(images.repositories[step]), origin) for step in request.layouts}


def _check_registries(workspace: Path, repositories: Mapping[str, Repository]) -> None:
    """Refuse a registry that the policy of the workspace does not allow; the embedded one leaves no machine."""
    rules = workspace_rules(workspace)
    named = dict.fromkeys(map(str, repositories.values()))
    found = [item for repository in named for item in check_registry(rules, "the repository", repository)]
    refuse(rules, "registries", found)


def _named(steps: Sequence[str]) -> str:
    """Return ``the step 'a'`` or ``the steps 'a', 'b'``."""
    return f"the step{'s' if len(steps) > 1 else ''} {', '.join(repr(step) for step in steps)}"
