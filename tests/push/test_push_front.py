"""What a push prints while its readers go away, and what of it programs can rely on."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.push_rig import find_crane, random_content, serve_registry, write_images_json, write_layout
from mfbazel import state
from mfbazel.push import FlowPush, Settings, push_flows
from mfbazel.push.__main__ import main
from mfbazel.push.errors import PushError
from mfbazel.push.images import read_images
from mfbazel.push.report import Reporter
from mfbazel.push.workers import Workers
from mfbazel.registry import Client

LABEL = "//ml:flow"


@pytest.fixture(autouse=True)
def own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep records and begun uploads in the scratch directory."""
    for name in ("HOME", "MFBAZEL_STATE_DIR", "XDG_CACHE_HOME", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / "user" / name))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve_registry(find_crane(), tmp_path_factory.mktemp("registry") / "disk") as host:
        yield host


def arguments(tmp_path: Path, repository: str, steps: tuple[str, ...] = ("start", "train")) -> list[str]:
    """Build a flow; return the command line of its push."""
    digests = {step: write_layout(tmp_path / step, {step: random_content(step, 2_000_000)}) for step in steps}
    images = write_images_json(tmp_path / "images.json", digests, repository, LABEL)
    layouts = [f"--image={step}={tmp_path / step}" for step in steps]
    return ["flow", f"--images={images}", *layouts, f"--workspace={tmp_path}"]


def run(options: list[str], **streams: Any) -> subprocess.CompletedProcess[bytes]:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **streams.pop("env", {})}
    command = [sys.executable, "-m", "mfbazel.push", *options]
    return subprocess.run(command, check=False, env=environ, timeout=60, stdin=subprocess.DEVNULL, **streams)


def closed_pipe() -> int:
    """Return the end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_push_goes_on_when_nobody_reads_what_it_says(tmp_path: Path, registry: str, stream: str) -> None:
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: closed_pipe()}
    done = run(arguments(tmp_path, f"{registry}/ml/{stream}"), **streams)
    os.close(streams[stream])
    assert (done.returncode, b"Traceback" in (done.stderr or b"")) == (0, False)
    assert state.images_path(tmp_path, LABEL).exists()


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["lines", "json"])
def test_results_that_find_no_room_are_an_error_after_all_is_recorded(
    tmp_path: Path, registry: str, options: list[str]
) -> None:
    with Path("/dev/full").open("wb") as full:
        done = run([*arguments(tmp_path, f"{registry}/ml/full"), *options], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith("error: ")
    assert "standard output" in last
    assert "No space left" in last
    assert state.images_path(tmp_path, LABEL).exists()


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["lines", "json"])
def test_a_terminal_that_knows_ascii_alone_is_no_reason_to_fail(
    tmp_path: Path, registry: str, options: list[str]
) -> None:
    flow = arguments(tmp_path, f"{registry}/ml/ascii", ("start",))
    done = run([*flow, "--label=//\u00e9:flow", *options], capture_output=True, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr.decode()
    if options:
        assert json.loads(done.stdout)["flows"][0]["label"] == "//\u00e9:flow"
    else:
        assert f"{registry}/ml/ascii@sha256:".encode() in done.stdout


def test_colours_that_a_ci_system_wants_bring_no_bars_into_its_log(
    tmp_path: Path, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    digest = write_layout(tmp_path / "start", {"big": random_content("big", 3_000_000)})
    images = write_images_json(tmp_path / "images.json", {"start": digest}, f"{registry}/ml/ci", LABEL)
    told = io.StringIO()
    request = FlowPush(images, {"start": tmp_path / "start"}, tmp_path, tmp_path, artifact=False)
    assert push_flows([request], Settings(), Reporter(told, told)).flows[0].error is None
    assert "\x1b[?25l" not in told.getvalue()  # which hides the cursor
    assert "sent sha256:" in told.getvalue()


def test_a_worker_that_exits_is_heard_of() -> None:
    def leave(_: int) -> None:
        sys.exit(3)

    found: list[BaseException | None] = []

    def consume() -> None:
        found.extend(error for _, _, error in Workers(1).each([1], leave))

    thread = threading.Thread(target=consume, daemon=True)
    thread.start()
    thread.join(10)
    assert [type(error) for error in found] == [SystemExit]


@pytest.mark.parametrize("command", ["flow", "promote"])
def test_json_is_whole_whatever_fails(
    tmp_path: Path, registry: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = arguments(tmp_path, f"{registry}/ml/json", ("start",))
    (tmp_path / "mfbazel.toml").write_text("[registries\n")
    promotion = ["promote", f"--images={tmp_path}/nothing.json", f"--to={registry}/ml/there", f"--workspace={tmp_path}"]
    with pytest.raises(Exception, match=r"mfbazel\.toml|nothing\.json") as caught:
        main([*(flow if command == "flow" else promotion), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == 1
    assert told["error"] == str(caught.value)


@pytest.mark.parametrize("change", ["gone", "short", "a directory"])
def test_a_layer_that_cannot_be_read_while_it_is_sent_is_named_and_concerns_no_other(
    tmp_path: Path, registry: str, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = f"{registry}/ml/{change.replace(' ', '-')}"
    digests = {step: write_layout(tmp_path / step, {step: random_content(step, 900_000)}) for step in ("bad", "good")}
    requests = []
    for step, digest in digests.items():
        images = write_images_json(tmp_path / f"{step}.json", {step: digest}, repository, f"//{step}:flow")
        requests.append(FlowPush(images, {step: tmp_path / step}, tmp_path, tmp_path, artifact=False))
    layer = (
        tmp_path
        / "bad/blobs/sha256"
        / max((path for path in (tmp_path / "bad/blobs/sha256").iterdir()), key=lambda path: path.stat().st_size).name
    )
    usable = Client.usable_blob

    def spoil(client: Client, path: str, digest: str) -> bool:
        if digest.endswith(layer.name):
            if change == "short":
                os.truncate(layer, 1000)
            else:
                layer.unlink()
            if change == "a directory":
                layer.mkdir()
        return usable(client, path, digest)

    monkeypatch.setattr(Client, "usable_blob", spoil)
    pushed = push_flows(requests, Settings(jobs=1), Reporter(io.StringIO(), io.StringIO()))
    assert isinstance(pushed.flows[0].error, PushError)
    assert f"the blob {layer}" in str(pushed.flows[0].error)
    assert "build" in str(pushed.flows[0].error)
    assert pushed.flows[1].error is None


@pytest.mark.parametrize(
    ("names", "given", "tag"), [(("flow", "flow"), [], "flow.images"), (("one", "two"), ["v1"], "start-v1")]
)
def test_a_tag_that_two_flows_of_a_run_would_set_is_an_error_of_the_second(
    tmp_path: Path, registry: str, names: tuple[str, str], given: list[str], tag: str
) -> None:
    repository = f"{registry}/ml/tags-{names[0]}"
    requests = []
    for package, name in zip(("a", "b"), names, strict=True):
        layout = tmp_path / package / "start"
        digest = write_layout(layout, {"own": package.encode()})
        images = write_images_json(layout.parent / "images.json", {"start": digest}, repository, f"//{package}:{name}")
        requests.append(FlowPush(images, {"start": layout}, tmp_path, tmp_path, tags=given))
    pushed = push_flows(requests, Settings(), Reporter(io.StringIO(), io.StringIO()))
    first, second = pushed.flows
    assert first.error is None
    text = str(second.error)
    assert text.startswith(f"the tag {repository}:{tag} would name ")
    assert f" of //a:{names[0]} and " in text
    assert f" of //b:{names[1]}, which" in text
    assert set(first.images.values()) == {f"{repository}@{read_images(requests[0].images).digests['start']}"}
    assert not state.images_path(tmp_path, second.label).exists()


def test_two_flows_may_have_one_image_under_one_tag(tmp_path: Path, registry: str) -> None:
    requests = []
    for name in ("one", "two"):
        layout = tmp_path / name / "start"
        digest = write_layout(layout, {"same": b"same"})
        images = write_images_json(layout.parent / "images.json", {"start": digest}, f"{registry}/ml/s", f"//a:{name}")
        requests.append(FlowPush(images, {"start": layout}, tmp_path, tmp_path, tags=["v1"], artifact=False))
    pushed = push_flows(requests, Settings(), Reporter(io.StringIO(), io.StringIO()))
    assert [flow.error for flow in pushed.flows] == [None, None]
