"""The record of a push is published beside the images, as an artifact of the registry."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from bench.push_rig import LoopbackHandler, Proxy, find_crane, serve_registry, write_images_json, write_layout
from mfbazel import state
from mfbazel.push.__main__ import main
from mfbazel.push.artifact import Artifact
from mfbazel.push.errors import PushError
from mfbazel.push.repository import Repository
from mfbazel.registry import fetch_images
from mfbazel.registry.artifact import Published

LABEL = "//examples/churn:churn_flow"
STEPS = ("start", "end")
_REFUSAL = b'{"errors":[{"code":"MANIFEST_INVALID","message":"unknown type"}]}'


@pytest.fixture(autouse=True)
def state_in_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep records and the embedded registry in the scratch directory."""
    monkeypatch.setenv("MFBAZEL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    with serve_registry(find_crane(), tmp_path / "disk") as registry, Proxy(registry) as counting:
        yield counting


def _push(root: Path, repository: str | None, *options: str, label: str = LABEL, **members: object) -> Path:
    """Push two steps through the command line; return the record's place."""
    digests = {step: write_layout(root / step, {step: step.encode()}) for step in STEPS}
    images = write_images_json(root / "images.json", digests, repository, label)
    content = json.loads(images.read_text())
    images.write_text(json.dumps(content | members))
    layouts = [f"--image={step}={root / step}" for step in STEPS]
    main(["flow", f"--images={images}", f"--crane={find_crane()}", f"--workspace={root}", *layouts, *options])
    return state.images_path(root, label)


def _published(printed: str) -> str:
    """Return the reference that a push printed."""
    (found,) = re.findall(r"^(?:already )?published:? (oci://\S+)$", printed, re.MULTILINE)
    return str(found)


def test_the_artifact_holds_the_record_and_is_printed_with_its_digest(
    tmp_path: Path, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    record = _push(tmp_path, f"{proxy.host}/ml/churn")
    reference = _published(capsys.readouterr().err)
    assert re.fullmatch(rf"oci://{proxy.host}/ml/churn:churn_flow\.images@sha256:[0-9a-f]{{64}}", reference)
    for named in (reference, f"oci://{proxy.host}/ml/churn:churn_flow.images"):
        assert fetch_images(named) == record.read_bytes()


def test_it_is_sent_after_every_image_and_tag_and_a_second_push_sends_nothing(
    tmp_path: Path, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    _push(tmp_path, f"{proxy.host}/ml/churn", "--tag=v1")
    first = _published(capsys.readouterr().err)
    put = [path.rpartition("/")[2] for method, path in proxy.take().requests if method == "PUT" and "manifests" in path]
    assert sorted(put[-4:-2]) == ["end-v1", "start-v1"]  # several at once
    assert put[-2:] == ["churn_flow.images", "churn_flow.images-v1"]
    _push(tmp_path, f"{proxy.host}/ml/churn", "--tag=v1")
    counts = proxy.take()
    assert {method for method, _ in counts.requests} == {"GET", "HEAD"}
    assert _published(capsys.readouterr().err) == first


def test_tags_of_the_build_are_given_to_it_too(tmp_path: Path, proxy: Proxy) -> None:
    record = _push(tmp_path, f"{proxy.host}/ml/churn", tags=["{step}-0123abc", "nightly"])
    for tag in ("churn_flow.images-0123abc", "churn_flow.images-nightly"):
        assert fetch_images(f"{proxy.host}/ml/churn:{tag}") == record.read_bytes()


def test_with_several_repositories_it_is_in_that_of_the_first_step(tmp_path: Path, proxy: Proxy) -> None:
    entries = {}
    for step in STEPS:
        digest = write_layout(tmp_path / step, {step: step.encode()})
        entries[step] = {"digest": digest, "requirements_sha256": "", "repository": f"{proxy.host}/ml/{step}"}
    record = _push(tmp_path, None, steps=entries)
    assert fetch_images(f"{proxy.host}/ml/start:churn_flow.images") == record.read_bytes()
    assert not [path for _, path in proxy.take().requests if "/ml/end/manifests/churn_flow.images" in path]


def test_what_no_tag_may_hold_is_replaced_in_the_name_of_the_flow(tmp_path: Path, proxy: Proxy) -> None:
    record = _push(tmp_path, f"{proxy.host}/ml/churn", label="//ml:deep/churn+1")
    assert fetch_images(f"{proxy.host}/ml/churn:deep-churn-1.images") == record.read_bytes()


def test_a_tag_that_names_an_image_already_is_refused_before_anything_is_sent(tmp_path: Path, proxy: Proxy) -> None:
    digest = write_layout(tmp_path / "start", {"start": b"start"})
    entry = {"digest": digest, "requirements_sha256": "", "tags": {"churn_flow.images": digest}}
    steps = {"start": entry, "end": {**entry, "digest": write_layout(tmp_path / "end", {"end": b"end"})}}
    with pytest.raises(PushError, match=r"the tag 'churn_flow\.images' would name an image and the images\.json of"):
        _push(tmp_path, f"{proxy.host}/ml/churn", steps=steps)
    assert proxy.take().requests == []


def test_what_is_printed_names_no_tag_that_still_names_an_earlier_push() -> None:
    artifact = Artifact(Repository("r.example", "ml/x"), ("x.images", "x.images-v1"))
    assert artifact.reference(Published("sha256:1", ("x.images-v1",), ("x.images",))) == "oci://r.example/ml/x@sha256:1"
    assert artifact.reference(Published("sha256:1", (), ())) == "oci://r.example/ml/x:x.images@sha256:1"


@pytest.fixture
def without_artifacts(proxy: Proxy) -> Iterator[str]:
    """A registry that takes images, and no artifacts."""

    class Handler(LoopbackHandler):
        def answer(self) -> None:
            body = self.body()
            data, status, headers = (
                b'{"errors":[{"code":"MANIFEST_INVALID","message":"unknown type"}]}',
                400,
                dict[str, str](),
            )
            if b"artifactType" not in body:
                data, status, headers = self._ask(body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def _ask(self, body: bytes) -> tuple[bytes, int, dict[str, str]]:
            connection = http.client.HTTPConnection(proxy.host)
            asked = {name: value for name, value in self.headers.items() if name != "Host"}
            connection.request(self.command, self.path, body or None, asked)
            answer = connection.getresponse()
            data = answer.read()
            connection.close()
            kept = {name: value for name, value in answer.getheaders() if name not in ("Content-Length", "Date")}
            return data, answer.status, kept

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_registry_that_takes_no_artifacts_is_named_with_the_way_out(tmp_path: Path, without_artifacts: str) -> None:
    with pytest.raises(PushError) as caught:
        _push(tmp_path, f"{without_artifacts}/ml/churn")
    text = str(caught.value)
    assert text.startswith(
        f"the images are pushed, but their images.json cannot be published as {without_artifacts}/ml"
    )
    assert "400 MANIFEST_INVALID: unknown type" in text
    assert "--no-artifact" in text
    assert not state.images_path(tmp_path, LABEL).exists()
    assert _push(tmp_path, f"{without_artifacts}/ml/churn", "--no-artifact").is_file()


def test_the_embedded_registry_still_has_it_after_a_restart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = f"--registry-store={tmp_path / 'store'}"
    try:
        record = _push(tmp_path, None, store)
        reference = _published(capsys.readouterr().err)
        main(["registry", "--stop", store])
        main(["registry", "--start", store, f"--crane={find_crane()}"])
        assert fetch_images(reference) == record.read_bytes()
    finally:
        main(["registry", "--stop", store])
