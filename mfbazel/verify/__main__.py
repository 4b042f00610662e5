"""Check what is deployed of a flow."""

from __future__ import annotations

from mfbazel.errors import run_front
from mfbazel.verify.cli import main

if __name__ == "__main__":
    run_front(main)
