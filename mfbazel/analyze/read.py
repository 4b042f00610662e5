"""Reading a flow one way or the other: what callers use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mfbazel.analyze.assemble import assemble
from mfbazel.analyze.dynamic import read_dynamic
from mfbazel.analyze.errors import NeedsRunningError
from mfbazel.analyze.model import FlowSpec
from mfbazel.analyze.options import ReadOptions
from mfbazel.analyze.raw import RawFlow
from mfbazel.analyze.reader import read_static
from mfbazel.analyze.source import Module, Sources, parse


def read_flow(path: Path | str, first_party: Sequence[Path | str] = (), options: ReadOptions | None = None) -> FlowSpec:
    """Read the flow in the file ``path``.

    Args:
        path: the flow's file.
        first_party: further directories from which first-party modules are imported, beside the flow's own.
        options: how to read it; by default statically, and dynamically where a construct needs it.

    Returns:
        The flow. File names in it are relative to the directory that the file was found in.

    Raises:
        AnalyzeError: the file does not parse, has no or several flows, or holds something that cannot be read;
            :class:`NeedsRunningError` of it where ``options.reading`` is ``static`` and the flow must be run to be
            known, :class:`DynamicError` where running it failed.
    """
    path = Path(path)
    options = options or ReadOptions()
    sources = Sources([path.parent, *(Path(root) for root in first_party)])
    module = parse(path, path.name)
    sources.add(module)
    try:
        return assemble(_raw(module, sources, options), module, sources, options)
    except RecursionError:
        raise sources.too_deep(module) from None


def _raw(module: Module, sources: Sources, options: ReadOptions) -> RawFlow:
    if options.reading == "dynamic":
        return read_dynamic(module, sources, options, "asked for")
    try:
        return read_static(module, sources)
    except NeedsRunningError as error:
        if options.reading == "static":
            raise
        return read_dynamic(module, sources, options, error.construct)
