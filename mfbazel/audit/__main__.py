"""``python -m mfbazel.audit``."""

from __future__ import annotations

from mfbazel.audit.cli import main
from mfbazel.errors import run_front

run_front(main)
