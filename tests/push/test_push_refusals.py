"""What the user reads when a registry cannot be reached or refuses, and that no secret is in it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from bench.push_rig import LoopbackHandler, find_crane, free_port, write_images_json, write_layout
from mfbazel import state
from mfbazel.policy import PolicyError
from mfbazel.push.__main__ import main
from mfbazel.push.errors import PushError
from mfbazel.registry import transport, upload
from mfbazel.registry.redaction import redact

LABEL = "//ml:flow"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    for module in (transport, upload):
        monkeypatch.setattr(module, "_FIRST_PAUSE", 0.001)


@contextmanager
def _refusing(status: int, methods: tuple[str, ...], body: bytes = b"no") -> Iterator[str]:
    """Run a registry that has nothing and answers the methods with a status; yield ``host:port``."""

    class Handler(LoopbackHandler):
        def answer(self) -> None:
            self.body()
            refused = self.command in methods and (self.path != "/v2/" or status == 401)
            code = status if refused else 200 if self.path == "/v2/" else 404
            self.send_response(code)
            if code == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="registry"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: str) -> str:
    """Push to ``repository``; return the error's text after checking that nothing was recorded."""
    monkeypatch.setenv("MFBAZEL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    digest = write_layout(tmp_path / "train", {"train": b"train"})
    images = write_images_json(tmp_path / "images.json", {"train": digest}, repository, LABEL)
    arguments = ["flow", f"--images={images}", f"--image=train={tmp_path}/train", f"--crane={find_crane()}"]
    with pytest.raises(PushError) as caught:
        main([*arguments, f"--workspace={tmp_path}"])
    assert not state.images_path(tmp_path, LABEL).exists()
    return str(caught.value)


def test_an_unreachable_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = f"127.0.0.1:{free_port()}"
    text = _failure(tmp_path, monkeypatch, f"{host}/ml/flow")
    assert text.startswith(f"the registry {host} cannot be reached, while asking for the image of the step 'train' (")
    assert "Connection refused" in text
    assert "Nothing was recorded." in text


def test_a_host_without_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = _failure(tmp_path, monkeypatch, "registry.invalid/ml/flow")
    assert text.startswith("the registry registry.invalid cannot be reached")


@pytest.mark.parametrize(
    ("status", "methods", "expected"),
    [
        (
            401,
            ("GET", "HEAD", "POST"),
            "wants credentials for {repository} and refused those it got, or got none (401)",
        ),
        (403, ("POST",), "does not let you push to {repository} (403)"),
        (405, ("POST",), "takes no uploads to {repository} (405): it is read-only or a mirror"),
        (413, ("POST",), "refuses uploads of this size (413)"),
        (429, ("POST",), "limits the rate of requests (429)"),
        (404, ("POST",), "has no repository {repository} (404)"),
        (507, ("POST",), "failed while it answered"),
    ],
)
def test_a_refusing_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, methods: tuple[str, ...], expected: str
) -> None:
    with _refusing(status, methods) as host:
        text = _failure(tmp_path, monkeypatch, f"{host}/ml/flow")
    assert text.startswith(f"the registry {host}")
    assert expected.format(repository=f"{host}/ml/flow") in text
    assert f"while {'asking for' if status == 401 else 'pushing'} the image of the step 'train'" in text
    assert "Nothing was recorded." in text
    if status in (401, 403):
        assert "$DOCKER_CONFIG/config.json" in text
        assert f"crane auth login {host}" in text


def test_a_registry_that_takes_an_image_and_does_not_keep_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(LoopbackHandler):
        def answer(self) -> None:
            self.body()
            status = {"POST": 202, "PATCH": 202, "PUT": 201}.get(self.command, 200 if self.path == "/v2/" else 404)
            self.send_response(status)
            self.send_header("Location", "/v2/ml/flow/blobs/uploads/1")
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Forgetful)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        text = _failure(tmp_path, monkeypatch, f"127.0.0.1:{server.server_address[1]}/ml/flow")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert "accepted the image of the step 'train', but does not have 127.0.0.1:" in text


def test_a_password_that_a_registry_echoes_is_not_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"errors":[{"code":"DENIED","message":"see https://me:s3cret@host/x?X-Amz-Signature=abcdef&a=b"}]}'
    with _refusing(403, ("POST",), body) as host:
        text = _failure(tmp_path, monkeypatch, f"{host}/ml/flow")
    assert "s3cret" not in text
    assert "abcdef" not in text
    assert "https://***@host/x?X-Amz-Signature=***&a=b" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Get https://user:pass@host/v2/", "Get https://***@host/v2/"),
        ("Authorization: Bearer abcdefgh.ijk", "Authorization: Bearer ***"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic ***"),
        ('{"auth": "dXNlcg=="}', '{"auth": "***"}'),
        (
            "PUT https://host/v2/a/blobs/uploads/1?digest=sha256%3Aab",
            "PUT https://host/v2/a/blobs/uploads/1?digest=sha256%3Aab",
        ),
    ],
)
def test_secrets_are_replaced_and_the_rest_is_kept(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_a_registry_that_the_policy_does_not_allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mfbazel.toml").write_text('[refused]\nregistries = ["127.0.0.1:*/public"]\n', encoding="utf-8")
    digest = write_layout(tmp_path / "train", {"train": b"train"})
    images = write_images_json(tmp_path / "images.json", {"train": digest}, "127.0.0.1:1/public/churn", LABEL)
    monkeypatch.setenv("MFBAZEL_STATE_DIR", str(tmp_path / "state"))
    arguments = ["flow", f"--images={images}", f"--image=train={tmp_path}/train", f"--crane={find_crane()}"]
    with pytest.raises(
        PolicyError, match=r"127.0.0.1:1/public/churn: refused by \[refused\] registries of mfbazel.toml"
    ):
        main([*arguments, f"--workspace={tmp_path}"])
    assert not state.images_path(tmp_path, LABEL).exists()
