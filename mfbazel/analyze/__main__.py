"""``python -m mfbazel.analyze``."""

from __future__ import annotations

from mfbazel.analyze.cli import main
from mfbazel.errors import run_front

run_front(main)
