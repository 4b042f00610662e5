"""Starts the subprocess, and makes a flow of what it says."""

from __future__ import annotations

from mfbazel.analyze.errors import DynamicError
from mfbazel.analyze.options import ReadOptions
from mfbazel.analyze.raw import RawFlow
from mfbazel.analyze.source import Module, Sources


def read_dynamic(module: Module, sources: Sources, options: ReadOptions, reason: str) -> RawFlow:
    """Read the flow in ``module`` by letting Metaflow load it in a sandboxed subprocess.

    Args:
        module: the flow's file.
        sources: where its first-party modules are.
        options: configurations and the time limit.
        reason: why it is read this way, for :class:`mfbazel.analyze.model.Reading`.

    Raises:
        DynamicError: the flow raised, took too long, or depends on what cannot be known.
    """
    raise DynamicError(f"{module.shown}: {reason}")
