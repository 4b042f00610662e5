"""What a task runs on, as it is recorded in the task's metadata and shown in its card.

The launching process knows it. A task on this machine is told in an environment variable; one elsewhere finds it in the
code package, in a file beside the flow. Where there is neither nothing is recorded: no task fails for that.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from metaflow import current
from metaflow.metadata_provider import MetaDatum

from .bazel_images import StepRun

TASK_VARIABLE = "MFBAZEL_TASK"
"""Environment variable of a task on this machine: the JSON text of :func:`of_step`."""
FILE = "mfbazel_images.json"
"""Name of the file in the code package."""
NO_IMAGE = "no image: local environment"
"""Value of ``mfbazel-image`` where a task runs on this machine."""

_SCHEMA = 1
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def of_step(run: StepRun, label: str | None) -> dict[str, Any]:
    """Return what is recorded of a step: the fields of :class:`StepRun`, and the label of the flow's target."""
    return {**asdict(run), "label": label}


def package_file(runs: Sequence[StepRun], label: str | None) -> str:
    """Return the content of the file in the code package."""
    steps = {run.step: of_step(run, label) for run in runs}
    return json.dumps({"schema": _SCHEMA, "steps": steps}, sort_keys=True, separators=(",", ":")) + "\n"


def read(step: str) -> Mapping[str, Any] | None:
    """Return what is known of ``step`` in the process of its task, None where that is nothing."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        if told := os.environ.get(TASK_VARIABLE):
            record = json.loads(told)
            return record if record["step"] == step else None
        for directory in (str(Path(sys.argv[0]).parent), *sys.path):
            file = Path(directory, FILE)
            if file.is_file():
                record = json.loads(file.read_text(encoding="utf-8"))["steps"][step]
                return record if isinstance(record, dict) else None
    return None


def values(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of a task by field; what is not known is left out.

    ``mfbazel-image`` is a reference, or :data:`NO_IMAGE`; ``mfbazel-image-from`` says whether ``bazel`` built it or the
    ``flow`` gave it: then the lock does not describe it, and is left out.
    """
    image, given = record.get("image"), bool(record.get("given"))
    layers = (record.get("layers") or {}).get(f"linux/{_architecture()}")
    found = {
        "mfbazel-image": image or NO_IMAGE,
        "mfbazel-image-from": ("flow" if given else "bazel") if image else None,
        "mfbazel-digest": record.get("digest"),
        "mfbazel-lock": None if given else record.get("lock"),
        "mfbazel-layers": json.dumps(layers) if layers else None,
        "mfbazel-label": record.get("label"),
    }
    return {name: str(value) for name, value in found.items() if value}


def register(step: str, metadata: Any, run_id: str, task_id: str, attempt: int) -> None:
    """Register the metadata of a task, and never fail."""
    with contextlib.suppress(Exception):
        if (record := read(step)) is not None:
            register_values(values(record), step, metadata, run_id, task_id, attempt)


def register_values(
    found: Mapping[str, str], step: str, metadata: Any, run_id: str, task_id: str, attempt: int
) -> None:
    """Register metadata of a task, by field."""
    tags = [f"attempt_id:{attempt}"]
    data = [MetaDatum(field=name, value=value, type=name, tags=tags) for name, value in found.items()]
    metadata.register_metadata(run_id, step, task_id, data)


def show_in_card(step: str) -> None:
    """Add what the task runs on to its cards of the type ``default``, and never fail."""
    with contextlib.suppress(Exception):
        cards: Any = getattr(current, "card", None)
        record = read(step) if cards is not None else None
        if record is not None:
            from metaflow.cards import Markdown

            for card in cards.get(type="default"):
                card.append(Markdown(card_text(record)))


def card_text(record: Mapping[str, Any]) -> str:
    """Return the text, in Markdown, of the section of a card."""
    said = values(record)
    image = said["mfbazel-image"]
    lines = [f"**Image:** {image if image == NO_IMAGE else f'`{image}`'}"]
    if record.get("given"):
        lines.append(f"given by the flow; does not follow the lock {record.get('lock') or ''}".rstrip())
    elif "mfbazel-lock" in said:
        lines.append(f"**Lock:** `{said['mfbazel-lock']}`")
    if "mfbazel-label" in said:
        lines.append(f"**Flow:** `{said['mfbazel-label']}`")
    return " · ".join(lines)


def _architecture() -> str:
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)
