"""Explaining a flow to people: its steps, their packages, and why each package is there.

``python -m mfbazel.explain --flow FLOW.py --lock-dir DIR`` prints tables; ``--json`` the same for machines.
"""

from __future__ import annotations

from mfbazel.explain.report import Package, Reason, Report, explain

__all__ = ["Package", "Reason", "Report", "explain"]
