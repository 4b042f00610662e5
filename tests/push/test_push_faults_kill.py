"""Pushes that are killed, and pushes of one flow at the same time."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.push_rig import random_content
from tests.push.fault_rig import Flow, assert_whole, count_events, ended, killed_at, wrong_record, wrong_registry
from tests.push.faulty_proxy import FaultyProxy
from tests.push.registries import Registry, crane_registry, docker_registry

SEED = 20261128
KINDS = ["docker", "crane", "docker, sessions kept"]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep records in the scratch directory."""
    for name in ("HOME", "MFBAZEL_STATE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "user" / name))


@pytest.fixture(scope="module")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Registry]]:
    scratch = tmp_path_factory.mktemp("registries")
    with docker_registry(scratch / "docker", disk=1 << 30) as docker, crane_registry(scratch / "crane") as crane:
        yield {"docker": docker, "crane": crane, "docker, sessions kept": docker}


@pytest.fixture(params=KINDS)
def proxy(request: pytest.FixtureRequest, registries: dict[str, Registry]) -> Iterator[FaultyProxy]:
    kept, crane = "kept" in request.param, request.param == "crane"
    with FaultyProxy(registries[request.param].host, keeps_sessions=kept, whole_manifests=crane) as made:
        yield made


def build(flow: Flow, version: str) -> None:
    """Build two images; a layer of theirs is there twice."""
    shared = random_content(f"{version} shared", 5_000_000)
    flow.build("start", {"shared": shared})
    flow.build("train", {"shared": shared, "own": random_content(f"{version} own", 1_500_000)})


@pytest.mark.parametrize("turn", range(3))
def test_a_killed_push_leaves_nothing_wrong_and_the_next_sends_the_rest(
    proxy: FaultyProxy, tmp_path: Path, turn: int
) -> None:
    chance = random.Random(f"{SEED} {turn} {proxy.upstream}")
    flow = Flow(tmp_path, f"{proxy.host}/ml/kill-{turn}", options=("--tag=v1",))
    build(flow, f"{proxy.host} {turn} before")
    events = count_events(proxy)
    assert flow.push().code == 0
    before = flow.recorded()
    build(flow, f"{proxy.host} {turn}")
    moment = chance.randrange(events[0])
    first = killed_at(flow, proxy, moment)
    assert first.code in (-signal.SIGKILL, 0)  # as the pieces of bodies come, there may be fewer events
    assert wrong_record(flow, before) == []
    path = flow.repository.partition("/")[2]
    assert wrong_registry(proxy.upstream, path) == []
    second = flow.push()
    assert_whole(flow, proxy, second, None, at_first=True)


@pytest.mark.parametrize(
    ("proxy", "together"),
    [("docker", True), ("docker", False), ("crane", True), ("docker, sessions kept", True)],
    ids=["docker-one user", "docker-two users", "crane-one user", "kept-one user"],
    indirect=["proxy"],
)
def test_two_pushes_of_a_flow_at_once_both_complete(proxy: FaultyProxy, tmp_path: Path, together: bool) -> None:
    flow = Flow(tmp_path, f"{proxy.host}/ml/twice{'-together' if together else ''}")
    build(flow, f"{proxy.host} twice {together}")
    other = {} if together else {"MFBAZEL_STATE_DIR": str(tmp_path / "b"), "XDG_CACHE_HOME": str(tmp_path / "c")}
    processes = [flow.start(), flow.start(variables=other)]
    outcomes = [ended(process) for process in processes]
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    assert outcomes[0].out == outcomes[1].out
    assert wrong_record(flow, None) == []
    path = flow.repository.partition("/")[2]
    assert wrong_registry(proxy.upstream, path, list(flow.digests.values())) == []
    if together:
        assert proxy.twice(flow.blobs) == 0
    third = flow.push()
    assert_whole(flow, proxy, third, None, at_first=True, apart=not together)
