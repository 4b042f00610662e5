"""The ``images.json`` of a build: every step's image by digest, known without pushing (docs/design/interfaces.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from mfbazel.image.errors import ImageError
from mfbazel.image.layout import Json, images, top_descriptor


def build_images(flow_json: Path, label: str, repository: str | None, layouts: Mapping[str, Path]) -> Json:
    """Return the content of ``images.json``.

    Args:
        flow_json: ``flow.json`` of the lock.
        label: of the flow's target.
        repository: where the images will be pushed, ``None`` if that is not configured.
        layouts: step → layout directory of its image.

    Raises:
        ImageError: the lock holds no flow, the steps of the two differ, or a layout is not usable.
    """
    flow = _flow(flow_json)
    steps = {step["name"]: step for step in flow["steps"]}
    missing, unknown = sorted(steps.keys() - layouts.keys()), sorted(layouts.keys() - steps.keys())
    if missing:
        raise ImageError(f"{flow_json}: no image was given for: {', '.join(missing)} (flow {flow['name']})")
    if unknown:
        raise ImageError(
            f"{flow_json}: flow {flow['name']} has no step: {', '.join(unknown)}; it has {', '.join(steps)}"
        )
    return {
        "schema": 1,
        "flow": flow["name"],
        "label": label,
        "repository": repository,
        "steps": {name: _step(layouts[name], step["requirements_sha256"]) for name, step in steps.items()},
    }


def to_json(document: Json) -> bytes:
    """Return the file's content: two spaces of indentation, sorted keys, a newline at the end."""
    return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _flow(path: Path) -> Json:
    try:
        document = json.loads(path.read_bytes())
        flow = document["flow"]
        if flow is None:
            raise ImageError(f"{path} is a lock without a flow: it has no steps")
        if document["schema"] != 1:
            raise ImageError(f"{path}: schema {document['schema']} is not understood, 1 is. Write the lock again.")
        for step in flow["steps"]:
            str(step["name"]), str(step["requirements_sha256"])
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ImageError(f"{path} is not the flow.json of a lock ({error!r}). Write the lock again.") from error
    result: Json = flow
    return result


def _step(layout: Path, requirements: str) -> Json:
    return {
        "digest": top_descriptor(layout)["digest"],
        "requirements_sha256": requirements,
        "platforms": sorted(image.platform for image in images(layout)),
    }
