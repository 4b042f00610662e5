"""``python -m mfbazel.explain``."""

from __future__ import annotations

from mfbazel.errors import run_front
from mfbazel.explain.cli import main

run_front(main)
