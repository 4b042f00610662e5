"""The dynamic reader: the flow's own Metaflow, run in a subprocess that can reach nothing, says what the flow is."""

from __future__ import annotations

from mfbazel.analyze.dynamic.reader import read_dynamic

__all__ = ["read_dynamic"]
