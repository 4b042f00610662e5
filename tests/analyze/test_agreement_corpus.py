"""On every flow of the corpus our answer is Metaflow's own, and is found in the expected way."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

from mfbazel.analyze import AnalyzeError, FlowSpec, read_flow
from mfbazel.analyze.errors import NeedsRunningError
from tests.analyze.agreement import Sample, corpus, differences, identifier
from tests.analyze.metaflow_oracle import Oracle

SAMPLES = corpus()
READ = [sample for sample in SAMPLES if sample.way != "refused"]
REFUSED = [sample for sample in SAMPLES if sample.way == "refused"]


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    with Oracle() as process:
        yield process


def test_the_corpus_has_at_least_forty_flows() -> None:
    assert len(SAMPLES) >= 40


@functools.cache
def read(sample: Sample) -> FlowSpec:
    return read_flow(sample.path, sample.roots, sample.options())


@pytest.mark.parametrize("sample", READ, ids=identifier)
def test_steps_graph_decorators_and_packages_are_metaflows(sample: Sample, oracle: Oracle) -> None:
    assert differences(read(sample), sample.ask(oracle), sample.left_out) == []


@pytest.mark.parametrize("sample", READ, ids=identifier)
def test_a_flow_is_read_in_the_expected_way(sample: Sample) -> None:
    reading = read(sample).reading
    assert reading.way == sample.way
    assert sample.reason.lower() in reading.reason.lower()


@pytest.mark.parametrize("sample", [item for item in READ if item.way == "dynamic"], ids=identifier)
def test_the_static_reader_says_what_it_cannot_know(sample: Sample) -> None:
    with pytest.raises(NeedsRunningError, match=r":\d+: "):
        read_flow(sample.path, sample.roots, sample.options("static"))


@pytest.mark.parametrize("sample", REFUSED, ids=identifier)
def test_a_flow_that_cannot_be_read_is_refused_with_the_reason(sample: Sample) -> None:
    with pytest.raises(AnalyzeError) as error:
        read_flow(sample.path, sample.roots, sample.options())
    assert sample.reason in str(error.value)
