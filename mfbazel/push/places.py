"""Where blobs are already, as the records of earlier pushes say: from there a registry can mount them."""

from __future__ import annotations

from pathlib import Path

from mfbazel.push.errors import PushError
from mfbazel.push.images import read_images
from mfbazel.registry import RegistryError, parse_reference
from mfbazel.state import state_dir, workspace_id


class Places:
    """Layers of the flows of a workspace, by registry and digest; the records are read when one is first asked for."""

    def __init__(self, workspace: Path) -> None:
        self._records = state_dir() / "images" / workspace_id(workspace)
        self._found: dict[tuple[str, str], str] | None = None

    def __call__(self, host: str, digest: str) -> str | None:
        """Return the path of a repository of ``host`` that had the blob ``digest``, ``None`` when none is known."""
        if self._found is None:
            self._found = dict(self._read())
        return self._found.get((host, digest))

    def _read(self) -> list[tuple[tuple[str, str], str]]:
        found = []
        for file in sorted(self._records.rglob("images.json")):
            try:
                steps = read_images(file).content["steps"].values()
                for step in steps:
                    reference = parse_reference(step.get("image") or "")
                    digests = [digest for layers in step.get("layers", {}).values() for digest in layers]
                    found += [((reference.host, digest), reference.path) for digest in digests]
            except (PushError, RegistryError, AttributeError, TypeError):
                continue  # a record that cannot be used saves no byte, that is all
        return found
