"""A push during which the registry, or what is between, fails: by faults in a proxy before real registries."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.push_rig import random_content
from mfbazel.registry import transport, upload
from mfbazel.registry.tls import Adapter
from tests.push.fault_rig import Flow, assert_whole, repository_name, wrong_registry
from tests.push.faulty_proxy import (
    Action,
    Change,
    Cut,
    Fault,
    FaultyProxy,
    Forget,
    LoseAnswer,
    Reply,
    Slow,
    Wait,
)
from tests.push.registries import Registry, crane_registry, docker_registry

OTHER = f"sha256:{'0' * 64}"
BODY = "PATCH|PUT"  # the requests that carry a blob, one or both of them
UPLOADS = "/blobs/uploads/."
BEGIN = "/blobs/uploads/$"
MANIFESTS = "/manifests/"
NEVER_ENDS = 0
KINDS = ("docker", "crane", "docker, sessions kept")
DISK = 2 << 30  # bytes, in memory at most: docker's registry waits for a real disk


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep records in the scratch directory, and try again at once."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("MFBAZEL_STATE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr(transport, "TrustingAdapter", lambda _host, **options: Adapter(**options))  # reads for long
    monkeypatch.setattr(upload, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(transport, "_FIRST_PAUSE", 0.01)


@pytest.fixture(scope="module")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Registry]]:
    scratch = tmp_path_factory.mktemp("registries")
    with (
        docker_registry(scratch / "docker", disk=DISK) as docker,
        crane_registry(scratch / "crane", disk=DISK) as crane,
    ):
        yield {"docker": docker, "crane": crane, "docker, sessions kept": docker}


@pytest.fixture(params=KINDS)
def proxy(request: pytest.FixtureRequest, registries: dict[str, Registry]) -> Iterator[FaultyProxy]:
    kept, crane = "kept" in request.param, request.param == "crane"
    with FaultyProxy(registries[request.param].host, keeps_sessions=kept, whole_manifests=crane) as made:
        yield made


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory, registries: dict[str, Registry]) -> bytes:
    """Return the record of an earlier push."""
    scratch = tmp_path_factory.mktemp("earlier")
    made = Flow(scratch, f"{registries['docker'].host}/ml/earlier")
    made.build("start", {"old": b"start"})
    made.build("train", {"old": b"train"})
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("HOME", str(scratch))
        monkeypatch.setenv("MFBAZEL_STATE_DIR", str(scratch))
        assert made.push().code == 0
        return made.record.read_bytes()


@pytest.fixture
def flow(request: pytest.FixtureRequest, tmp_path: Path, proxy: FaultyProxy, earlier: bytes) -> Flow:
    """Two images that share a large layer, and the record of an earlier push."""
    made = Flow(tmp_path, f"{proxy.host}/ml/{repository_name(request.node.name)}")
    made.record.parent.mkdir(parents=True)
    made.record.write_bytes(earlier)
    large = random_content(f"{request.node.name} large", 4_400_000)
    made.build("start", {"large": large})
    made.build("train", {"large": large, "own": random_content(f"{request.node.name} own", 1_000_000)})
    return made


def push_during(flow: Flow, proxy: FaultyProxy, *faults: Fault, at_first: bool, says: Sequence[str] = ()) -> float:
    """Push while ``faults`` happen, and check what has to hold; return how many seconds the push took."""
    before = flow.recorded()
    assert before
    proxy.script(*faults)
    began = time.monotonic()
    first = flow.push()
    seconds = time.monotonic() - began
    assert proxy.hits(), "nothing went wrong"
    assert_whole(flow, proxy, first, before, at_first=at_first, says=says)
    return seconds


PASSING: dict[str, Fault] = {
    "reset in the middle of a blob": Fault(Cut(), BODY, UPLOADS, after=500_000),
    "reset in the middle of another one": Fault(Cut(), BODY, UPLOADS, nth=2, after=500_000),
    "reset after two bytes": Fault(Cut(), BODY, UPLOADS, after=2),
    "closed in the middle of a blob": Fault(Cut(reset=False), BODY, UPLOADS, after=500_000),
    "reset twice": Fault(Cut(), BODY, UPLOADS, times=2, after=500_000),
    "reset instead of the answer to a blob": Fault(LoseAnswer(), BODY, UPLOADS),
    "reset instead of the answer to the end of a blob": Fault(LoseAnswer(), "PUT", UPLOADS),
    "reset instead of the answer to the beginning": Fault(LoseAnswer(), "POST", BEGIN),
    "reset instead of the answer to a manifest": Fault(LoseAnswer(), "PUT", MANIFESTS),
    "reset while asked": Fault(Cut(), "HEAD"),
    "500 to the beginning": Fault(Reply(500), "POST", BEGIN),
    "500 to a blob": Fault(Reply(500), BODY, UPLOADS),
    "500 in the middle of a blob": Fault(Reply(500), BODY, UPLOADS, after=500_000),
    "502 to a blob": Fault(Reply(502, body=b"<html>"), BODY, UPLOADS, times=2),
    "503 to a blob": Fault(Reply(503, {"Retry-After": "0"}), BODY, UPLOADS),
    "503 to a manifest": Fault(Reply(503), "PUT", MANIFESTS),
    "504 to a question": Fault(Reply(504), "HEAD"),
    "429 to a question": Fault(Reply(429, {"Retry-After": "0"}), "HEAD"),
    "429 to a manifest": Fault(Reply(429, {"Retry-After": "0"}), "PUT", MANIFESTS),
    "a late answer": Fault(Wait(0.4), "HEAD|POST|PUT"),
    "slow answers": Fault(Slow(2_000, answer=True), times=NEVER_ENDS),
    "a slow blob": Fault(Slow(3_000_000), BODY, UPLOADS, after=300_000),
    "a blob that stands still": Fault(Wait(0.4), BODY, UPLOADS, after=500_000),
    "the upload is lost": Fault(Forget(), BODY, UPLOADS),
    "the upload is lost in the middle": Fault(Forget(), BODY, UPLOADS, after=500_000),
    "the upload is lost at its end": Fault(Forget(), "PUT", UPLOADS),
}


def on_registries(cases: Mapping[str, object], everywhere: Iterable[str]) -> pytest.MarkDecorator:
    """Try cases with docker's registry, and those ``everywhere``, in which registries differ, with each."""
    names = [(kind, name) for name in cases for kind in KINDS if kind == KINDS[0] or name in everywhere]
    chosen = [pytest.param(kind, cases[name], id=f"{kind}-{name}") for kind, name in names]
    return pytest.mark.parametrize(("proxy", "case"), chosen, indirect=["proxy"])


@on_registries(PASSING, [name for name, fault in PASSING.items() if fault.path == UPLOADS])
def test_what_passes_is_no_failure(flow: Flow, proxy: FaultyProxy, case: Fault) -> None:
    push_during(flow, proxy, case, at_first=True)


def test_a_byte_that_arrived_alone_is_no_reason_to_fail(flow: Flow, proxy: FaultyProxy) -> None:
    # What registries say of one byte, `Range: 0-0`, is what docker's says of none.
    proxy.script(Fault(Cut(), BODY, UPLOADS, after=1))
    assert flow.push().code == 0
    assert proxy.twice(flow.blobs) <= 1


@pytest.mark.parametrize("proxy", ["docker, sessions kept"], indirect=True)
def test_getting_on_by_a_byte_with_each_attempt_is_given_up(flow: Flow, proxy: FaultyProxy) -> None:
    fault = Fault(Cut(), BODY, UPLOADS, times=NEVER_ENDS, after=2)
    push_during(flow, proxy, fault, at_first=False, says=[a_blob(flow), "cannot be reached"])


@dataclass(frozen=True)
class Lasting:
    """A fault that does not end, and what the error says of it: ``{blob}`` is a digest of one of the flow's blobs."""

    action: Action
    says: tuple[str, ...]
    method: str = BODY
    path: str = UPLOADS


AGAIN = r"(?i)try again|push again|then push"
LASTING: dict[str, Lasting] = {
    "reset where blobs begin": Lasting(Cut(), ("{blob}", "cannot be reached", "Check")),
    "429": Lasting(Reply(429, {"Retry-After": "0"}), ("{blob}", r"\b429\b", r"(?i)wait|later")),
    "429 for an hour": Lasting(Reply(429, {"Retry-After": "3600"}), ("{blob}", r"\b3600 s", r"(?i)wait|later")),
    "500": Lasting(Reply(500), ("{blob}", r"\b500\b", "log and disk", AGAIN)),
    "502": Lasting(Reply(502, body=b"<html>"), ("{blob}", r"\b502\b", AGAIN)),
    "503": Lasting(Reply(503), ("{blob}", r"\b503\b", AGAIN)),
    "413": Lasting(Reply(413), ("{blob}", r"\b413\b", "smaller layers")),
    "403": Lasting(Reply(403), ("{blob}", r"\b403\b", "docker login")),
    "405": Lasting(Reply(405), ("{blob}", r"\b405\b", "takes pushes"), "POST", BEGIN),
    "500 to the beginning": Lasting(Reply(500), ("{blob}", r"\b500\b", AGAIN), "POST", BEGIN),
    "500 to manifests": Lasting(Reply(500), ("sha256:[0-9a-f]{{64}}", r"\b500\b", AGAIN), "PUT", MANIFESTS),
    "the upload is lost": Lasting(Forget(), ("{blob}", r"\b404\b")),
    "another digest for a blob": Lasting(
        Change({"Docker-Content-Digest": OTHER}), ("{blob}", OTHER, AGAIN), "PUT", UPLOADS
    ),
    "another digest for a manifest": Lasting(
        Change({"Docker-Content-Digest": OTHER}), ("sha256:[0-9a-f]{{64}}", OTHER, AGAIN), "PUT", MANIFESTS
    ),
    "no answer to a question": Lasting(Cut(), ("cannot be reached", "Check"), "HEAD", ""),
}


@on_registries(LASTING, ["reset where blobs begin", "500", "the upload is lost", "another digest for a blob"])
def test_what_lasts_is_told_and_costs_no_byte_afterwards(flow: Flow, proxy: FaultyProxy, case: Lasting) -> None:
    fault = Fault(case.action, case.method, case.path, times=NEVER_ENDS)
    push_during(flow, proxy, fault, at_first=False, says=[text.format(blob=a_blob(flow)) for text in case.says])


def a_blob(flow: Flow) -> str:
    """Return what finds the digest of any of the flow's blobs."""
    return f"(?:{'|'.join(flow.blobs)})"


def test_connections_that_all_end_early_carry_a_blob_where_uploads_are_kept(flow: Flow, proxy: FaultyProxy) -> None:
    kept = proxy.keeps_sessions
    says = [a_blob(flow), "cannot be reached", "Check"]
    fault = Fault(Cut(), BODY, UPLOADS, times=NEVER_ENDS, after=900_000)
    if kept:
        # Each attempt brings the upload on; the connection lives for what is smaller.
        fault = Fault(Cut(), BODY, UPLOADS, times=5, after=900_000)
    push_during(flow, proxy, fault, at_first=kept, says=says)


def test_an_answer_that_does_not_come_is_not_waited_for(
    flow: Flow, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "_ANSWER_SECONDS", 0.8)
    push_during(flow, proxy, Fault(Wait(1.5), "PATCH", UPLOADS), at_first=True)


@pytest.mark.parametrize("proxy", ["docker"], indirect=True)
def test_a_registry_that_asks_to_wait_is_waited_for(flow: Flow, proxy: FaultyProxy) -> None:
    fault = Fault(Reply(429, {"Retry-After": "1"}), BODY, UPLOADS)
    assert push_during(flow, proxy, fault, at_first=True) >= 1


# crane's keeps manifests in memory only: it comes back without any.
@pytest.mark.parametrize("proxy", ["docker", "docker, sessions kept"], indirect=True)
def test_a_registry_that_ends_and_comes_back_gets_the_rest(flow: Flow, proxy: FaultyProxy, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "own") as own:
        proxy.upstream = own.host
        flow.build("end", {"end": b"end"})
        assert flow.push().code == 0
        before = flow.recorded()
        flow.build("start", {"new": random_content("ends", 3_000_000)})
        own.stop()
        first = flow.push()
        own.start()
        assert_whole(flow, proxy, first, before, says=(r"\b50[23]\b",), at_first=False)


@pytest.mark.parametrize("proxy", ["crane"], indirect=True)
def test_a_manifest_that_arrived_in_part_and_was_kept_is_sent_again(flow: Flow, proxy: FaultyProxy) -> None:
    proxy.whole_manifests = False
    # The body's length is about 400.
    proxy.script(Fault(Cut(), "PUT", MANIFESTS, times=NEVER_ENDS, after=200))
    assert flow.push().code == 1
    proxy.script()
    path = flow.repository.partition("/")[2]
    kept = "".join(wrong_registry(proxy.upstream, path, list(flow.digests.values())))
    assert "has the digest" in kept, "crane's registry keeps no part of a manifest any more: nothing is tried here"
    assert flow.push().code == 0
    assert wrong_registry(proxy.upstream, path, list(flow.digests.values())) == []


@pytest.mark.parametrize("proxy", ["docker"], indirect=True)
@pytest.mark.parametrize("what", ["_layers", "_manifests/revisions", "_manifests/tags"])
def test_what_dockers_registry_cannot_read_after_a_full_disk_is_sent_again(
    flow: Flow, proxy: FaultyProxy, registries: dict[str, Registry], what: str
) -> None:
    path = flow.repository.partition("/")[2]
    assert flow.push("--tag=v1").code == 0
    disk = Path(f"/proc/{registries['docker'].process.pid}/root{registries['docker'].storage}")
    repository = disk / "docker/registry/v2/repositories" / path
    links = list((repository / what).rglob("link"))
    assert links
    for link in links:
        os.truncate(link, 0)
    shutil.rmtree(repository / "_manifests" / "revisions" if what == "_layers" else repository / "_uploads")
    assert wrong_registry(proxy.upstream, path, list(flow.digests.values()))
    assert flow.push("--tag=v1").code == 0
    assert wrong_registry(proxy.upstream, path, list(flow.digests.values())) == []


@pytest.mark.parametrize("kind", ["docker", "crane"])
def test_a_full_disk_at_the_registry_is_told_and_room_is_enough_to_go_on(tmp_path: Path, kind: str) -> None:
    run = {"docker": docker_registry, "crane": crane_registry}[kind]
    with run(tmp_path / kind, disk=24 << 20) as registry, FaultyProxy(registry.host) as proxy:
        flow = Flow(tmp_path / "flow", f"{proxy.host}/ml/churn")
        flow.build("start", {"small": b"small"})
        assert flow.push().code == 0
        before = flow.recorded()
        flow.build("start", {"small": b"small", "large": random_content("full", 6_000_000)})
        registry.fill()
        first = flow.push()
        registry.free()
        says = (a_blob(flow), r"\b500\b", "log and disk", AGAIN)
        assert_whole(flow, proxy, first, before, at_first=False, says=says)
