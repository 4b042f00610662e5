"""The file ``images.json``: what the build made, and what the push recorded (``docs/design/interfaces.md``)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfbazel.push.errors import PushError

SCHEMA = 1
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_OF_PUSH = ("repository", "signed_by", "attached")  # members of a step that each push, or promotion, says anew


@dataclass(frozen=True)
class Signed:
    """What an image has besides its manifest and blobs.

    Attributes:
        signer: name of the signer that signed it, ``None`` for nobody.
        attached: kinds of the documents that are attached to it.
    """

    signer: str | None = None
    attached: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return its members of a step in ``images.json``."""
        return {
            **({"signed_by": self.signer} if self.signer else {}),
            **({"attached": list(self.attached)} if self.attached else {}),
        }


@dataclass(frozen=True)
class Images:
    """The content of an ``images.json``.

    Attributes:
        content: the whole object, members unknown here included.
        label: the flow's label, or ``None``.
        repositories: step to what the user configured, or ``None``.
        digests: step to ``sha256:…``, in the file's order.
        tags: step to tags, each with the digest that it names.
        unstamped: templates of tags that only a stamped build knows.
        flow_tags: tags of what is of the whole flow; ``{step}`` in them stands for its name.
    """

    content: dict[str, Any]
    label: str | None
    repositories: dict[str, str | None]
    digests: dict[str, str]
    tags: dict[str, dict[str, str]]
    unstamped: tuple[str, ...]
    flow_tags: tuple[str, ...] = ()

    def recorded_images(self) -> dict[str, str]:
        """Return step to ``repository@sha256:…`` as a push wrote it; steps without are left out."""
        return {name: step["image"] for name, step in self.content["steps"].items() if step.get("image")}

    def signed(self, step: str) -> Signed:
        """Return what a push recorded of signatures and documents of the image of ``step``."""
        entry = self.content["steps"][step]
        signer, attached = entry.get("signed_by"), entry.get("attached")
        return Signed(
            signer if isinstance(signer, str) else None, tuple(map(str, attached if isinstance(attached, list) else ()))
        )

    def pushed_to(self, repositories: Mapping[str, str], signed: Mapping[str, Signed]) -> str:
        """Return the text of the push's ``images.json``: the repositories filled in, and each step's ``image``.

        Args:
            repositories: step to the repository that its image was pushed to.
            signed: step to what its image has there besides.
        """
        common = set(repositories.values())
        steps = {
            name: {
                **{key: value for key, value in step.items() if key not in _OF_PUSH},
                **signed[name].as_json(),
                **({"repository": repositories[name]} if len(common) > 1 else {}),
                "image": f"{repositories[name]}@{step['digest']}",
            }
            for name, step in self.content["steps"].items()
        }
        repository = common.pop() if len(common) == 1 else None
        content = {**self.content, "repository": repository, "steps": steps}
        return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def read_images(path: Path) -> Images:
    """Read and check an ``images.json``.

    Raises:
        PushError: the file is missing, is not such a file, or has another schema.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PushError(f"{path} cannot be read ({error.strerror}); build the flow's `.images` target.") from error
    return parse_images(data, str(path))


def parse_images(data: bytes, origin: str) -> Images:
    """Check the content of an ``images.json``.

    Args:
        data: the content.
        origin: where it is from, for messages.

    Raises:
        PushError: it is not such a file, or has another schema.
    """
    try:
        content = json.loads(data)
    except ValueError as error:
        raise PushError(f"{origin} is not JSON: {error}; build the flow's `.images` target again.") from error
    return _checked(origin, content)


def _checked(path: str, content: Any) -> Images:
    """Check the object read from ``path``."""
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise PushError(f"{path} is not an images.json of schema {SCHEMA} (found: {found!r}); build it again.")
    steps = content.get("steps")
    if not isinstance(steps, dict) or not steps:
        raise PushError(f"{path} names no step under `steps`; build the flow's `.images` target again.")
    for name, step in steps.items():
        digest = step.get("digest") if isinstance(step, dict) else None
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise PushError(f"{path}: the step {name!r} has no sha256 digest (found: {digest!r}); build it again.")
    for member, where in [(content, name) for name in ("label", "repository")] + [
        (step, "repository") for step in steps.values()
    ]:
        if not isinstance(member.get(where), str | None):
            raise PushError(f"{path}: `{where}` is not text (found: {member[where]!r}); build it again.")
    return Images(
        content,
        content.get("label"),
        {name: step.get("repository", content.get("repository")) for name, step in steps.items()},
        {name: step["digest"] for name, step in steps.items()},
        {name: _tags(path, name, step) for name, step in steps.items()},
        tuple(sorted({template for step in steps.values() for template in step.get("unstamped_tags", [])})),
        tuple(content.get("tags", ())),
    )


def _tags(path: str, name: str, step: dict[str, Any]) -> dict[str, str]:
    """Return the tags of a step."""
    tags = step.get("tags", {})
    if not isinstance(tags, dict) or not all(
        isinstance(value, str) and _DIGEST.fullmatch(value) for value in tags.values()
    ):
        raise PushError(
            f"{path}: the tags of the step {name!r} are not tag and digest (found: {tags!r}); build it again."
        )
    return tags
