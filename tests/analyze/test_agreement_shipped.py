"""On every flow that ships in the metaflow distribution our answer is Metaflow's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mfbazel.analyze import read_flow
from tests.analyze.agreement import RUN, differences, distributed, identifier, shipped
from tests.analyze.metaflow_oracle import Oracle

TUTORIALS = {
    "00-helloworld/helloworld.py",
    "01-playlist/playlist.py",
    "02-statistics/stats.py",
    "03-playlist-redux/playlist.py",
    "04-playlist-plus/playlist.py",
    "05-hello-cloud/hello-cloud.py",
}


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    with Oracle() as process:
        yield process


def test_all_tutorials_are_among_the_flows() -> None:
    found = {"/".join(path.parts[-2:]) for path in shipped()}
    assert found >= TUTORIALS


def test_no_notebook_defines_a_flow_that_is_left_out() -> None:
    notebooks = distributed(".ipynb")
    assert notebooks
    assert [path.name for path in notebooks if "(FlowSpec)" in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("flow", shipped(), ids=identifier)
def test_steps_graph_decorators_and_packages_are_metaflows(flow: Path, oracle: Oracle) -> None:
    found = read_flow(flow)
    assert differences(found, oracle.ask(flow)) == []
    assert found.reading.way == ("dynamic" if flow.parent.name in RUN else "static")
