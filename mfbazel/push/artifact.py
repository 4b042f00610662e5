"""Publishing the record of a push beside the images, so that a flow can be launched without the file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mfbazel.push.embedded import EmbeddedRegistry
from mfbazel.push.errors import PushError
from mfbazel.push.images import Images
from mfbazel.push.repository import Repository, parse_tag
from mfbazel.registry import Client, RegistryError, publish_images
from mfbazel.registry.artifact import SCHEME, Published, artifact_manifest
from mfbazel.state import parse_label

_SUFFIX = ".images"  # no step's name holds a dot: the tags of images are others
_STEP = "{step}"


@dataclass(frozen=True)
class Artifact:
    """The artifact of a flow's ``images.json``.

    Attributes:
        repository: where it goes: where the image of the flow's first step is.
        tags: what names it, the one that every push sets first.
    """

    repository: Repository
    tags: tuple[str, ...]

    def reference(self, published: Published) -> str:
        """Return what ``MFBAZEL_IMAGES`` takes: the tag, for people, and the digest, which counts."""
        tag = "" if self.tags[0] in published.fixed else f":{self.tags[0]}"
        return f"{SCHEME}{self.repository}{tag}@{published.digest}"


def plan_artifact(images: Images, label: str, repository: Repository, given: Sequence[str]) -> Artifact:
    """Return how the artifact is called: ``<flow>.images``, and that with every tag that the images have besides.

    Args:
        images: the build's ``images.json``.
        label: of the flow.
        repository: of the first step's image.
        given: the tags of ``--tag``.

    Raises:
        PushError: one would be no tag, or would name an image too.
    """
    flow = re.sub(r"[^a-zA-Z0-9_.-]+", "-", parse_label(label)[1]).lstrip(".-")
    name = f"{flow}{_SUFFIX}"
    templates = [tag if _STEP in tag else f"{_STEP}-{tag}" for tag in (*images.flow_tags, *given)]
    tags = [name, *(template.replace(_STEP, name) for template in templates)]
    origin = f"the tag of the images.json of {label}"
    taken = {tag for by_tag in images.tags.values() for tag in by_tag}
    for tag in tags:
        if parse_tag(tag, origin) in taken:
            raise PushError(f"the tag {tag!r} would name an image and the images.json of {label}; rename the image's.")
    return Artifact(repository, tuple(dict.fromkeys(tags)))


def publish(artifact: Artifact, content: str, client: Client, kept: EmbeddedRegistry | None) -> Published:
    """Let the tags name the artifact of ``content``.

    Args:
        artifact: see :func:`plan_artifact`.
        content: the record of the push.
        client: of the artifact's registry.
        kept: the embedded registry, if it is the one pushed to.

    Raises:
        PushError: the registry cannot be reached, or refuses.
    """
    data = content.encode()
    repository = artifact.repository
    try:
        published = publish_images(client, repository.path, artifact.tags, data)
    except RegistryError as error:
        raise PushError(
            f"the images are pushed, but their images.json cannot be published as {repository}:{artifact.tags[0]}: "
            f"{error} Nothing was recorded. For a registry that takes no artifacts, pass --no-artifact."
        ) from error
    if kept:
        kept.keep_manifest(repository.path, published.digest, artifact_manifest(data))
    return published
