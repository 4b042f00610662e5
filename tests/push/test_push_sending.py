"""How blobs get to a registry: in chunks, resumed, mounted, once for several flows; and what is told of it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pty
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.push_rig import (
    Proxy,
    find_crane,
    random_content,
    serve_registry,
    write_images_json,
    write_index_layout,
    write_layout,
)
from mfbazel import state
from mfbazel.push import FlowPush, PushError, Settings, delivery, push_flows, read_layout
from mfbazel.push import flow as flow_module
from mfbazel.push.__main__ import main
from mfbazel.push.journal import Journal
from mfbazel.push.report import Reporter
from mfbazel.registry import Client, Kind, RegistryError
from mfbazel.registry.known import RegistryType
from mfbazel.registry.upload import Outcome, Source, Uploader
from tests.push.faulty_proxy import Fault, FaultyProxy, Reply
from tests.push.registries import docker_registry

BIG = random_content("big", 5_000_000)


@pytest.fixture(autouse=True)
def own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep records and begun uploads in the scratch directory."""
    monkeypatch.setenv("MFBAZEL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    with serve_registry(find_crane(), tmp_path / "disk") as registry, Proxy(registry) as counting:
        yield counting


@pytest.fixture(scope="module")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("distribution")) as registry:
        yield registry.host


def _flow(root: Path, name: str, repository: str | None, *layers: str) -> FlowPush:
    """Build a flow of one step whose image has these layers."""
    digest = write_layout(root / name / "start", {layer: random_content(layer, 200_000) for layer in layers})
    images = write_images_json(root / name / "images.json", {"start": digest}, repository, f"//{name}:flow")
    return FlowPush(
        images, {"start": root / name / "start"}, root, root / "registry", str(find_crane()), artifact=False
    )


def _push(*flows: FlowPush, **settings: Any) -> Any:
    return push_flows(flows, Settings(**settings), Reporter(io.StringIO(), io.StringIO()))


def test_a_blob_that_flows_of_two_repositories_share_is_sent_once_and_mounted(
    tmp_path: Path, distribution: str
) -> None:
    with Proxy(distribution) as proxy:
        one = _flow(tmp_path, "one", f"{proxy.host}/ml/one", "shared", "one")
        two = _flow(tmp_path, "two", f"{proxy.host}/ml/two", "shared", "two")
        pushed = _push(one, two)
        assert [flow.error for flow in pushed.flows] == [None, None]
        by_outcome = Counter(blob.uploaded.outcome for blob in pushed.blobs)
        assert by_outcome == {Outcome.SENT: 5, Outcome.MOUNTED: 1}  # 3 layers and 2 configurations; the shared layer
        sent = sum(blob.content.size for blob in pushed.blobs if blob.uploaded.outcome is Outcome.SENT)
        assert proxy.take().blob_bytes == sent


def test_a_layer_of_an_earlier_push_is_mounted_from_its_repository(tmp_path: Path, distribution: str) -> None:
    first = _flow(tmp_path, "one", f"{distribution}/earlier/one", "shared")
    content = json.loads(first.images.read_text())
    layer = json.loads(_manifest(tmp_path / "one" / "start"))["layers"][0]["digest"]
    content["steps"]["start"]["layers"] = {"linux/amd64": [layer]}
    first.images.write_text(json.dumps(content))
    _push(first)
    pushed = _push(_flow(tmp_path, "two", f"{distribution}/earlier/two", "shared"))
    outcomes = {blob.content.digest: blob.uploaded.outcome for blob in pushed.blobs}
    assert outcomes[layer] is Outcome.MOUNTED
    assert pushed.summary.mounted_blobs == 1
    assert Client(distribution).head_blob("earlier/two", layer)


def test_a_layer_of_an_image_that_is_there_is_mounted_though_no_record_names_it(
    tmp_path: Path, distribution: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = _flow(tmp_path, "old", f"{distribution}/unrecorded/old", "shared")
    _push(old)
    monkeypatch.setenv("MFBAZEL_STATE_DIR", str(tmp_path / "another machine"))
    pushed = _push(old, _flow(tmp_path, "new", f"{distribution}/unrecorded/new", "shared", "own"))
    outcomes = Counter(blob.uploaded.outcome for blob in pushed.blobs)
    assert outcomes == {Outcome.MOUNTED: 1, Outcome.SENT: 2}  # the layer of its own, and the configuration


@pytest.mark.parametrize(("mounts", "times"), [(True, 1), (False, 2)])
def test_a_dry_run_counts_a_blob_for_each_repository_where_none_is_mounted(
    tmp_path: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, mounts: bool, times: int
) -> None:
    monkeypatch.setattr(flow_module, "registry_type", lambda *_, **__: RegistryType("own", mounts=mounts))
    flows = [_flow(tmp_path, name, f"{proxy.host}/dry/{name}", "shared") for name in ("one", "two")]
    absent = [content.digest for _, content in _push(*flows, dry_run=True).absent]
    assert set(Counter(absent).values()) == {times}


def test_a_flow_that_fails_does_not_keep_another_from_being_pushed(tmp_path: Path, proxy: Proxy) -> None:
    bad = _flow(tmp_path, "bad", "registry.invalid/ml/bad", "a")
    good = _flow(tmp_path, "good", f"{proxy.host}/ml/good", "b")
    pushed = _push(bad, good)
    assert "the registry registry.invalid cannot be reached" in str(pushed.flows[0].error)
    assert pushed.flows[1].error is None
    assert not state.images_path(tmp_path, "//bad:flow").exists()
    assert state.images_path(tmp_path, "//good:flow").exists()


def test_a_large_blob_goes_in_chunks_and_a_session_of_an_earlier_run_is_taken_up(tmp_path: Path, proxy: Proxy) -> None:
    source = _source(BIG, tmp_path)
    journal = Journal(tmp_path / "uploads")

    def interrupted(position: int) -> None:
        if position > 3 << 20:
            raise KeyboardInterrupt

    uploader = Uploader(Client(proxy.host), journal, 1 << 20)
    with pytest.raises(KeyboardInterrupt):
        uploader.put("ml/big", source, interrupted)
    assert proxy.take().blob_bytes == 3 << 20
    uploaded = Uploader(Client(proxy.host), journal, 1 << 20).put("ml/big", source, lambda _: None)
    assert (uploaded.outcome, uploaded.resumed, uploaded.sent) == (Outcome.SENT, 3 << 20, len(BIG) - (3 << 20))
    assert proxy.take().blob_bytes == uploaded.sent
    assert Client(proxy.host).head_blob("ml/big", source.digest)
    assert not list((tmp_path / "uploads").glob("*.json"))


def test_a_session_that_holds_other_bytes_is_given_up_and_the_blob_sent_again(tmp_path: Path, proxy: Proxy) -> None:
    journal = Journal(tmp_path / "uploads")
    source = _source(BIG, tmp_path)
    damaged = Source(source.digest, source.size, lambda _: io.BytesIO(b"x" * source.size))
    with pytest.raises(RegistryError) as refused:
        Uploader(Client(proxy.host), journal, 1 << 20).put("ml/big", damaged, lambda _: None)
    assert refused.value.problem.kind is Kind.DIGEST
    assert Uploader(Client(proxy.host), journal, 1 << 20).put("ml/big", source, lambda _: None).sent == len(BIG)


def test_a_registry_that_takes_no_chunks_gets_the_blob_in_one(tmp_path: Path, proxy: Proxy) -> None:
    with FaultyProxy(proxy.host) as refusing:
        refusing.script(Fault(Reply(416), "PATCH"))
        uploader = Uploader(Client(refusing.host), None, 1 << 20)
        for blob in (BIG, BIG[::-1]):
            assert uploader.put("ml/big", _source(blob, tmp_path), lambda _: None).outcome is Outcome.SENT
    assert uploader.chunk is None


def test_a_dry_run_sends_and_starts_nothing_and_names_what_would_be_sent(
    tmp_path: Path, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    _push(_flow(tmp_path, "one", f"{proxy.host}/ml/one", "shared"))
    proxy.take()
    flow = _flow(tmp_path, "one", f"{proxy.host}/ml/one", "shared", "new")
    arguments = ["flow", f"--images={flow.images}", f"--image=start={tmp_path}/one/start", f"--workspace={tmp_path}"]
    record = state.images_path(tmp_path, "//one:flow").read_bytes()
    assert main([*arguments, "--dry-run", "--json"]) == 0
    assert {method for method, _ in proxy.take().requests} <= {"GET", "HEAD"}
    assert state.images_path(tmp_path, "//one:flow").read_bytes() == record
    told = json.loads(capsys.readouterr().out)
    assert [blob["outcome"] for blob in told["blobs"]] == ["would be sent"] * 2
    assert told["sent_bytes"] == sum(blob["size"] for blob in told["blobs"])
    assert {blob["repository"] for blob in told["blobs"]} == {f"{proxy.host}/ml/one"}


def test_a_dry_run_without_repository_does_not_start_the_embedded_registry(tmp_path: Path) -> None:
    flow = _flow(tmp_path, "one", None, "a")
    pushed = _push(flow, dry_run=True)
    assert len(pushed.absent) == 2
    assert not (tmp_path / "registry").exists()


def test_json_names_every_image_and_blob_and_nothing_else_is_on_standard_output(
    tmp_path: Path, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = _flow(tmp_path, "one", f"{proxy.host}/ml/one", "a")
    arguments = ["flow", f"--images={flow.images}", f"--image=start={tmp_path}/one/start", f"--workspace={tmp_path}"]
    assert main([*arguments, "--json", "--tag=v1"]) == 0
    told = json.loads(capsys.readouterr().out)
    digest = json.loads((tmp_path / "one/start/index.json").read_bytes())["manifests"][0]["digest"]
    assert told["flows"][0]["images"] == {"start": f"{proxy.host}/ml/one@{digest}"}
    assert told["flows"][0]["tags"] == [f"{proxy.host}/ml/one:start-v1"]
    assert {blob["outcome"] for blob in told["blobs"]} == {"sent"}
    assert (
        told["sent_bytes"] == proxy.take().blob_bytes - len(state.images_path(tmp_path, "//one:flow").read_bytes()) - 2
    )


def test_json_tells_an_error_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flow = _flow(tmp_path, "one", "registry.invalid/ml/one", "a")
    arguments = ["flow", f"--images={flow.images}", f"--image=start={tmp_path}/one/start", f"--workspace={tmp_path}"]
    with pytest.raises(PushError):
        main([*arguments, "--json"])
    assert "cannot be reached" in json.loads(capsys.readouterr().out)["flows"][0]["error"]


def test_progress_is_plain_lines_where_there_is_no_terminal(tmp_path: Path, proxy: Proxy) -> None:
    digest = write_layout(tmp_path / "start", {"big": BIG})
    images = write_images_json(tmp_path / "images.json", {"start": digest}, f"{proxy.host}/ml/one", "//one:flow")
    told = io.StringIO()
    push_flows([FlowPush(images, {"start": tmp_path / "start"}, tmp_path, tmp_path)], Settings(), Reporter(told, told))
    assert "\x1b" not in told.getvalue()
    assert "sent sha256:" in told.getvalue()


def test_a_terminal_shows_a_bar_for_each_large_blob_and_one_for_all(tmp_path: Path, proxy: Proxy) -> None:
    digest = write_layout(tmp_path / "start", {"big": BIG})
    images = write_images_json(tmp_path / "images.json", {"start": digest}, f"{proxy.host}/ml/one", "//one:flow")
    ours, theirs = pty.openpty()
    told = bytearray()
    reading = threading.Thread(target=_drain, args=(ours, told), daemon=True)
    reading.start()
    with os.fdopen(theirs, "w") as terminal:
        reporter = Reporter(io.StringIO(), terminal)
        request = FlowPush(images, {"start": tmp_path / "start"}, tmp_path, tmp_path, artifact=False)
        assert push_flows([request], Settings(), reporter).flows[0].error is None
    reading.join(10)
    (big,) = [blob.digest for blob in read_layout(tmp_path / "start").blobs if blob.size > len(BIG) // 2]
    assert big[:19].encode() in told  # a row of its own
    assert b"2 blobs" in told
    assert b"\x1b[" in told


def test_an_unchanged_push_opens_no_blob(tmp_path: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = _flow(tmp_path, "one", f"{proxy.host}/ml/one", "a", "b")
    _push(flow)
    opened = []
    monkeypatch.setattr(delivery, "_open", lambda *arguments: opened.append(arguments))
    assert _push(flow).flows[0].error is None
    assert not opened


def test_a_reader_finds_nothing_before_what_it_names(tmp_path: Path, proxy: Proxy) -> None:
    digests = [write_layout(tmp_path / name, {"shared": b"shared", name: name.encode()}) for name in ("a", "b")]
    write_index_layout(tmp_path / "both", [tmp_path / "a", tmp_path / "b"])
    index = json.loads((tmp_path / "both/index.json").read_bytes())["manifests"][0]["digest"]
    images = write_images_json(tmp_path / "images.json", {"start": index}, f"{proxy.host}/ml/one", "//one:flow")
    _push(FlowPush(images, {"start": tmp_path / "both"}, tmp_path, tmp_path, tags=["v1"]))
    puts = [path.partition("/ml/one/")[2] for method, path in proxy.take().requests if method == "PUT"]
    kinds = ["blob" if path.startswith("blobs/") else path.removeprefix("manifests/") for path in puts]
    sent = kinds[: kinds.index(digests[0])]
    assert sent == ["blob"] * 5  # 3 layers, 2 configurations
    assert kinds[len(sent) :] == [*digests, index, "start-v1", "blob", "blob", "flow.images", "flow.images-v1"]


def test_an_interruption_ends_a_push_at_once_with_130(tmp_path: Path, proxy: Proxy) -> None:
    digest = write_layout(tmp_path / "start", {"big": BIG})
    images = write_images_json(tmp_path / "images.json", {"start": digest}, f"{proxy.host}/ml/one", "//one:flow")
    script = (
        "import sys; from mfbazel.push import engine, __main__ as front; from mfbazel.errors import run_front\n"
        "import os, signal\n"
        "engine.Engine.send_manifests = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.argv[0] = 'push'; run_front(front.main)\n"
    )
    command = [sys.executable, "-c", script, "flow", f"--images={images}", f"--image=start={tmp_path}/start"]
    done = subprocess.run([*command, f"--workspace={tmp_path}"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (130, "interrupted")
    assert not state.images_path(tmp_path, "//one:flow").exists()


def _source(content: bytes, directory: Path) -> Source:
    file = directory / "blob"
    file.write_bytes(content)

    def open_at(offset: int) -> io.BufferedReader:
        stream = file.open("rb")
        stream.seek(offset)
        return stream

    return Source(f"sha256:{hashlib.sha256(content).hexdigest()}", len(content), open_at)


def _manifest(layout: Path) -> str:
    digest = str(json.loads((layout / "index.json").read_bytes())["manifests"][0]["digest"])
    return (layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_text()


def _drain(descriptor: int, told: bytearray) -> None:
    """Read a terminal until its other side is closed."""
    try:
        while data := os.read(descriptor, 65536):
            told += data
    except OSError:  # what Linux says at the end
        return
