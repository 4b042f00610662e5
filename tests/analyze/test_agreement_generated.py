"""On random flows our answer is Metaflow's own, whichever way the flow is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from mfbazel.analyze import read_flow
from mfbazel.analyze.model import Reading
from mfbazel.analyze.options import ReadOptions
from tests.analyze.agreement import differences
from tests.analyze.generated_flows import flows
from tests.analyze.metaflow_oracle import Oracle

COMMON = settings(
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    with Oracle() as process:
        yield process


@settings(COMMON, max_examples=100)
@given(text=flows())
def test_generated_flows_are_read_as_metaflow_reads_them(text: str, oracle: Oracle, tmp_path: Path) -> None:
    flow = tmp_path / "generated.py"
    flow.write_text(text, encoding="utf-8")
    answer = oracle.ask(flow)
    assert answer.lint is None
    assert differences(read_flow(flow, (), ReadOptions(reading="static")), answer) == []


@settings(COMMON, max_examples=12)
@given(text=flows())
def test_generated_flows_are_the_same_read_both_ways(text: str, tmp_path: Path) -> None:
    flow = tmp_path / "generated.py"
    flow.write_text(text, encoding="utf-8")
    found = [read_flow(flow, (), ReadOptions(reading=way)) for way in ("static", "dynamic")]
    static, dynamic = (dataclasses.replace(item, reading=Reading("", "")) for item in found)
    assert static == dynamic
