"""``python -m mfbazel.build``."""

from __future__ import annotations

from mfbazel.build.cli import main
from mfbazel.errors import run_front

if __name__ == "__main__":
    run_front(main)
