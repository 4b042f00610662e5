"""``python -m mfbazel.sbom``."""

from __future__ import annotations

from mfbazel.errors import run_front
from mfbazel.sbom.cli import main

run_front(main)
