"""The analyzer: a flow's steps, packages, imports and requests.

``python -m mfbazel.analyze --flow FLOW.py`` prints a flow spec, as in ``docs/flow_spec.schema.json``.
"""

from __future__ import annotations

from mfbazel.analyze.errors import AnalyzeError, DynamicError, NeedsRunningError
from mfbazel.analyze.model import Declared, FlowSpec, Inferred, Place, Reading, Remote, Requests, Step
from mfbazel.analyze.options import ReadOptions
from mfbazel.analyze.read import read_flow
from mfbazel.analyze.requirements import Attributes, Effective, effective, live_requirements, merge, requirements_sha256

__all__ = [
    "AnalyzeError",
    "Attributes",
    "Declared",
    "DynamicError",
    "Effective",
    "FlowSpec",
    "Inferred",
    "NeedsRunningError",
    "Place",
    "ReadOptions",
    "Reading",
    "Remote",
    "Requests",
    "Step",
    "effective",
    "live_requirements",
    "merge",
    "read_flow",
    "requirements_sha256",
]
