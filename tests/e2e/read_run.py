"""Reads a run back through Metaflow's client; a process of its own, because Metaflow reads its settings on import.

read_run.py FLOW RUN      prints a JSON object, see :func:`describe_run`
"""

from __future__ import annotations

import json
import sys
from typing import Any

from metaflow import Run, namespace
from metaflow.cards import get_cards
from metaflow.plugins.cards.exception import CardNotPresentException


def describe_run(pathspec: str) -> dict[str, Any]:
    """Return whether the run succeeded, and its tasks: step, id, success, logs, artifacts and cards (HTML)."""
    namespace(None)
    run = Run(pathspec)
    tasks = [describe_task(task) for step in run for task in step]
    return {"successful": run.successful, "finished": run.finished, "tasks": tasks}


def describe_task(task: Any) -> dict[str, Any]:
    """Return one task; artifacts by name."""
    return {
        "step": task.parent.id,
        "task": task.id,
        "successful": task.successful,
        "stdout": task.stdout,
        "stderr": task.stderr,
        "artifacts": {artifact.id: artifact.data for artifact in task},
        "cards": cards(task),
    }


def cards(task: Any) -> list[str]:
    """Return the task's cards; most tasks have none."""
    try:
        return [card.get() for card in get_cards(task)]
    except CardNotPresentException:
        return []


if __name__ == "__main__":
    print(json.dumps(describe_run(f"{sys.argv[1]}/{sys.argv[2]}"), default=repr))
