"""The static reader: a flow's steps, packages and imports from its source, without importing anything.

``python -m mfbazel.analyze FLOW.py`` prints the flow part of docs/design/interfaces.md.
"""

from __future__ import annotations

from mfbazel.analyze.errors import AnalyzeError
from mfbazel.analyze.model import Declared, FlowSpec, Inferred, Remote, Step
from mfbazel.analyze.reader import read_flow
from mfbazel.analyze.requirements import Attributes, Effective, effective, live_requirements, merge, requirements_sha256

__all__ = [
    "AnalyzeError",
    "Attributes",
    "Declared",
    "Effective",
    "FlowSpec",
    "Inferred",
    "Remote",
    "Step",
    "effective",
    "live_requirements",
    "merge",
    "read_flow",
    "requirements_sha256",
]
