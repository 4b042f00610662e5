"""The registry that is started where no repository is configured."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bench.push_rig import find_crane, write_images_json, write_layout
from mfbazel import state
from mfbazel.push import embedded
from mfbazel.push.__main__ import main
from mfbazel.push.embedded import EmbeddedRegistry
from mfbazel.push.errors import PushError
from mfbazel.push.layout import hash_file

LABEL = "//examples/Churn:churn_flow"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A store whose registry is stopped in the end."""
    yield tmp_path / "registry"
    EmbeddedRegistry(tmp_path / "registry").stop()


@pytest.fixture
def push(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments of a push of a flow without a repository."""
    monkeypatch.setenv("MFBAZEL_STATE_DIR", str(tmp_path / "state"))
    digest = write_layout(tmp_path / "train", {"train": b"train"})
    images = write_images_json(tmp_path / "images.json", {"train": digest}, None, LABEL)
    arguments = ["flow", f"--images={images}", f"--image=train={tmp_path}/train", f"--crane={find_crane()}"]
    return [*arguments, f"--workspace={tmp_path}", f"--registry-store={store}"]


def _image(tmp_path: Path) -> str:
    content = json.loads(state.images_path(tmp_path, LABEL).read_text())
    return str(content["steps"]["train"]["image"])


def _crane(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([find_crane(), *arguments], capture_output=True, check=False)


def _pullable(image: str) -> bool:
    """Whether the registry gives the manifest and every blob that it names, whole."""
    manifest = _crane("manifest", image)
    if manifest.returncode:
        return False
    content = json.loads(manifest.stdout)
    repository = image.partition("@")[0]
    blobs = [content["config"], *content["layers"]]
    return all(len(_crane("blob", f"{repository}@{blob['digest']}").stdout) == blob["size"] for blob in blobs)


def test_a_push_without_repository_starts_it_and_says_where_and_how_to_stop_it(
    tmp_path: Path, store: Path, push: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(push) == 0
    running = EmbeddedRegistry(store).status()
    assert running
    err = capsys.readouterr().err
    assert f"no repository is configured: started an embedded registry on {running.host}" in err
    assert f"its blobs are in {store}" in err
    assert f"stop it with `kill {running.pid}`" in err
    assert _image(tmp_path).startswith(f"{running.host}/examples/churn/churn_flow@sha256:")
    assert _pullable(_image(tmp_path))


def test_a_second_push_uses_the_one_that_runs(store: Path, push: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(push)
    first = EmbeddedRegistry(store).status()
    capsys.readouterr()
    main(push)
    assert EmbeddedRegistry(store).status() == first
    err = capsys.readouterr().err
    assert "using the embedded registry" in err
    assert "nothing changed, nothing sent" in err


def test_a_restart_keeps_the_port_and_every_image(tmp_path: Path, store: Path, push: list[str]) -> None:
    main(push)
    registry = EmbeddedRegistry(store)
    before = registry.stop()
    assert before and registry.status() is None
    assert not _pullable(_image(tmp_path))
    ensured = registry.ensure(find_crane())
    assert (ensured.started, ensured.former_port, ensured.running.port) == (True, None, before.port)
    assert _pullable(_image(tmp_path))


def test_a_manifest_whose_blobs_are_gone_is_not_given_back(tmp_path: Path, store: Path, push: list[str]) -> None:
    main(push)
    EmbeddedRegistry(store).stop()
    for blob in (store / "blobs/sha256").iterdir():
        blob.unlink()
    main(push)
    assert _pullable(_image(tmp_path))


def test_a_taken_port_is_replaced_and_said_aloud(
    tmp_path: Path,
    store: Path,
    push: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main(push)
    before = EmbeddedRegistry(store).stop()
    assert before
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", before.port))
        other.listen()
        monkeypatch.setattr(embedded, "_ANSWER_SECONDS", 1.0)  # it never answers
        main(push)
    after = EmbeddedRegistry(store).status()
    assert after and after.port != before.port
    assert f"its former port {before.port} is taken" in capsys.readouterr().err
    assert _image(tmp_path).startswith(after.host)
    assert _pullable(_image(tmp_path))


def test_blobs_are_copied_into_the_store_instead_of_uploaded(
    store: Path, push: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main([*push, "--no-artifact"])
    log = (store / "registry.log").read_text()
    assert "PUT /v2/examples/churn/churn_flow/manifests/" in log
    assert "/v2/examples/churn/churn_flow/blobs/uploads/" not in log
    assert "2 blobs, 254 B sent" in capsys.readouterr().err
    assert list((store / "incoming").iterdir()) == []
    for blob in (store / "blobs/sha256").iterdir():
        assert hash_file(blob) == f"sha256:{blob.name}"


def test_a_corrupted_blob_does_not_get_into_the_store(tmp_path: Path, store: Path, push: list[str]) -> None:
    descriptor = json.loads((tmp_path / "train/index.json").read_text())["manifests"][0]
    manifest = json.loads((tmp_path / "train/blobs" / descriptor["digest"].replace(":", "/")).read_text())
    layer = tmp_path / "train/blobs" / manifest["layers"][0]["digest"].replace(":", "/")
    layer.write_bytes(b"\x00" * layer.stat().st_size)
    with pytest.raises(PushError, match=rf"digest mismatch while pushing .*the blob {layer} has the digest"):
        main(push)
    assert layer.name not in {blob.name for blob in (store / "blobs/sha256").iterdir()}
    assert list((store / "incoming").iterdir()) == []
    assert not state.images_path(tmp_path, LABEL).exists()


def test_two_at_once_start_one(store: Path) -> None:
    barrier = threading.Barrier(4)

    def ensure(_: int) -> tuple[int, bool]:
        barrier.wait()
        ensured = EmbeddedRegistry(store).ensure(find_crane())
        return ensured.running.pid, ensured.started

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(ensure, range(4)))
    assert len({pid for pid, _ in results}) == 1
    assert [started for _, started in results].count(True) == 1


def test_it_outlives_the_process_that_started_it_in_a_session_of_its_own(store: Path) -> None:
    command = [sys.executable, "-m", "mfbazel.push", "registry", "--start"]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    options = [f"--crane={find_crane()}", f"--registry-store={store}"]
    # Captured output: a registry that kept the pipes open would block here until the timeout.
    subprocess.run([*command, *options], check=True, capture_output=True, env=environ, timeout=60)
    running = EmbeddedRegistry(store).status()
    assert running
    assert os.getsid(running.pid) == running.pid
    assert running.pid != os.getpid()


def test_a_registry_of_another_store_on_the_recorded_port_is_not_taken_for_ours(tmp_path: Path, store: Path) -> None:
    other = EmbeddedRegistry(tmp_path / "other")
    try:
        theirs = other.ensure(find_crane()).running
        ours = EmbeddedRegistry(store)
        mine = ours.ensure(find_crane()).running
        ours.stop()
        record = json.loads((store / "registry.json").read_text())
        (store / "registry.json").write_text(json.dumps({**record, "port": theirs.port}))
        assert ours.status() is None
        assert ours.ensure(find_crane()).running.pid not in (theirs.pid, mine.pid)
        assert other.status() == theirs
    finally:
        other.stop()


def test_stop_leaves_a_process_alone_that_got_the_number_of_ours(store: Path) -> None:
    registry = EmbeddedRegistry(store)
    registry.ensure(find_crane())
    registry.stop()
    with subprocess.Popen(["sleep", "60"]) as bystander:
        record = json.loads((store / "registry.json").read_text())
        (store / "registry.json").write_text(json.dumps({**record, "pid": bystander.pid}))
        assert registry.stop() is None
        assert bystander.poll() is None
        bystander.kill()


def test_status_start_and_stop_on_the_command_line(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"--registry-store={store}"]
    assert main(["registry", "--status", *options]) == 1
    assert main(["registry", "--start", f"--crane={find_crane()}", *options]) == 0
    assert main(["registry", "--status", *options]) == 0
    assert main(["registry", "--stop", *options]) == 0
    assert main(["registry", "--stop", *options]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.rsplit(maxsplit=1)[-1] for line in out] == [str(store), "runs", "stopped", str(store)]


def test_a_crane_that_does_not_come_up_is_an_error_with_its_last_words(tmp_path: Path, store: Path) -> None:
    crane = tmp_path / "crane"
    crane.write_text("#!/bin/sh\necho out of luck >&2\nexit 3\n")
    crane.chmod(0o755)
    with pytest.raises(PushError, match=r"did not come up.*registry\.log.*'out of luck'"):
        EmbeddedRegistry(store).ensure(crane)
    assert not (store / "registry.json").exists()


def test_a_store_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PushError, match=rf"store {tmp_path}/file/registry cannot be used.*--registry-store"):
        EmbeddedRegistry(tmp_path / "file" / "registry").ensure(find_crane())


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{}", b'{"config": 1, "layers": 2}', b'{"manifests": [1]}'])
def test_a_manifest_in_the_store_that_is_none_does_not_keep_the_registry_from_starting(
    tmp_path: Path, store: Path, push: list[str], content: bytes
) -> None:
    assert main(push) == 0
    EmbeddedRegistry(store).stop()
    damaged = store / "manifests" / "ml" / "x" / ("0" * 64)
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(content)
    assert EmbeddedRegistry(store).ensure(find_crane()).started
    assert not damaged.exists()
    assert _pullable(_image(tmp_path))


@pytest.mark.parametrize("raised", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_registry_that_cannot_be_recorded_is_not_left_running(
    store: Path, monkeypatch: pytest.MonkeyPatch, raised: BaseException
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*arguments, **options))
        return started[-1]

    def fail(*_: object) -> None:
        raise raised

    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", start)
        patched.setattr(embedded, "write_atomically", fail)
        with pytest.raises(KeyboardInterrupt if isinstance(raised, KeyboardInterrupt) else PushError):
            EmbeddedRegistry(store).ensure(find_crane())
    assert [process.wait(10) is not None for process in started] == [True]


def test_a_store_that_takes_no_manifest_is_named(store: Path, push: list[str]) -> None:
    EmbeddedRegistry(store).ensure(find_crane())
    (store / "manifests").write_text("in the way")
    with pytest.raises(PushError, match=rf"store {store} cannot be used"):
        main(push)
