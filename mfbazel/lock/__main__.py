"""``python -m mfbazel.lock``."""

from __future__ import annotations

from mfbazel.errors import run_front
from mfbazel.lock.cli import main

run_front(main)
