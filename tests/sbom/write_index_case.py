"""Writes a lock (first argument: its flow.json) and an image of two platforms (second: its directory)."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.sbom.case import AMD64, ARM64, add, demo, sha, wheel, write_image

lock, image = map(Path, sys.argv[1:])
case = demo(lock.parent.parent)
add(case, "train", sha("arm"), wheel("numpy"), ARM64)
assert case.write_lock() == lock
write_image(image, [AMD64, ARM64])
