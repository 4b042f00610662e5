"""The file ``images.json``: what the build made, and what the push recorded (``docs/design/interfaces.md``)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfbazel.push.errors import PushError

SCHEMA = 1
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Images:
    """The content of an ``images.json``.

    Attributes:
        content: the whole object, members unknown here included.
        label: the flow's label, or ``None``.
        repository: what the user configured, or ``None``.
        digests: step to ``sha256:…``, in the file's order.
    """

    content: dict[str, Any]
    label: str | None
    repository: str | None
    digests: dict[str, str]

    def recorded_images(self) -> dict[str, str]:
        """Return step to ``repository@sha256:…`` as a push wrote it; steps without are left out."""
        return {name: step["image"] for name, step in self.content["steps"].items() if step.get("image")}

    def pushed_to(self, repository: str) -> str:
        """Return the text of the push's ``images.json``: the repository filled in, and each step's ``image``."""
        steps = {
            name: {**step, "image": f"{repository}@{step['digest']}"} for name, step in self.content["steps"].items()
        }
        content = {**self.content, "repository": repository, "steps": steps}
        return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def read_images(path: Path) -> Images:
    """Read and check an ``images.json``.

    Raises:
        PushError: the file is missing, is not such a file, or has another schema.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise PushError(f"{path} cannot be read ({error.strerror}); build the flow's `.images` target.") from error
    except ValueError as error:
        raise PushError(f"{path} is not JSON: {error}; build the flow's `.images` target again.") from error
    return _checked(path, content)


def _checked(path: Path, content: Any) -> Images:
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
    for member in ("label", "repository"):
        if not isinstance(content.get(member), str | None):
            raise PushError(f"{path}: `{member}` is not text (found: {content[member]!r}); build it again.")
    digests = {name: step["digest"] for name, step in steps.items()}
    return Images(content, content.get("label"), content.get("repository"), digests)
