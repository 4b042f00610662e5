"""Both ways of reading give one answer on every flow that both can read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from mfbazel.analyze import FlowSpec, read_flow
from mfbazel.analyze.model import Reading
from mfbazel.analyze.options import ReadOptions
from tests.analyze.agreement import RUN, Sample, corpus, identifier, shipped

STATIC = [sample for sample in corpus() if sample.way == "static"]


def both(path: Path, roots: Sequence[Path], static: ReadOptions) -> tuple[FlowSpec, FlowSpec]:
    """Read a flow both ways, and take out which way it was."""
    dynamic = dataclasses.replace(static, reading="dynamic")
    found = [read_flow(path, roots, options) for options in (dataclasses.replace(static, reading="static"), dynamic)]
    assert [flow.reading.way for flow in found] == ["static", "dynamic"]
    one, other = (dataclasses.replace(flow, reading=Reading("", "")) for flow in found)
    return one, other


@pytest.mark.parametrize("sample", STATIC, ids=identifier)
def test_static_and_dynamic_reading_give_the_same_flow(sample: Sample) -> None:
    static, dynamic = both(sample.path, sample.roots, sample.options())
    assert static == dynamic
    assert static.to_json() == dynamic.to_json()


@pytest.mark.parametrize("flow", [path for path in shipped() if path.parent.name not in RUN], ids=identifier)
def test_static_and_dynamic_reading_of_metaflows_own_flows_are_the_same(flow: Path) -> None:
    static, dynamic = both(flow, (), ReadOptions())
    assert static == dynamic
