"""Registries that answer with nonsense, or mean harm: an error that says so, no secret, and no other machine asked."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mfbazel.push.journal import Journal
from mfbazel.registry import Client, Kind, RegistryError, fetch_images
from mfbazel.registry import transport as transport_module
from mfbazel.registry import upload as upload_module
from mfbazel.registry.artifact import IMAGES_TYPE
from mfbazel.registry.client import digest_of
from mfbazel.registry.referrers import get_referrers, tagged_referrers
from mfbazel.registry.transport import Deadline, Transport
from mfbazel.registry.upload import Session, Source, Uploader
from tests.registry.gate import EMPTY, IMAGE, Asked, Gate, Reply, without_credentials

DEEP = b"[" * 1_000_000
"""JSON that no parser can follow."""
DIGEST = digest_of(IMAGE)
BLOB = b"a blob"


@pytest.fixture(autouse=True)
def nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_credentials(tmp_path, monkeypatch)


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as made:
        yield made


def answers(gate: Gate, rule: Callable[[Asked], Reply]) -> None:
    """Let the gate greet, and answer all else by ``rule``."""
    gate.rule = lambda asked: Reply(200) if asked.path == "/v2/" else rule(asked)


def put(gate: Gate, **options: object) -> None:
    source = Source(digest_of(BLOB), len(BLOB), lambda offset: io.BytesIO(BLOB[offset:]))
    Uploader(Client(gate.host), **options).put("ml/x", source, lambda _: None)  # type: ignore[arg-type]


def log_in(tmp_path: Path, host: str, **entry: str) -> None:
    file = tmp_path / "home" / ".docker" / "config.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"auths": {host: entry}}))


def test_json_without_an_end_is_an_error_like_any_other(gate: Gate) -> None:
    answers(gate, lambda _: Reply(403, DEEP))
    with pytest.raises(RegistryError, match=r"does not let you read .* \(403\)"):
        Client(gate.host).get_manifest("ml/x", "v1")
    index = {"Content-Type": "application/vnd.oci.image.index.v1+json"}
    answers(gate, lambda _: Reply(200, DEEP, index))
    with pytest.raises(RegistryError, match="gives no image index"):
        get_referrers(Client(gate.host), "ml/x", DIGEST)
    assert tagged_referrers(Client(gate.host), "ml/x", DIGEST) == []
    with pytest.raises(RegistryError, match=r"holds no images\.json"):
        fetch_images(f"{gate.host}/ml/x:v1")


@pytest.mark.parametrize(
    "answer",
    [
        DEEP,
        b'{"token": "sp ace"}',
        b'{"token": "new\\nline"}',
        '{"token": "\u4ee4\u724c"}'.encode(),
        b'{"token": ["list"]}',
    ],
    ids=["deep", "space", "newline", "beyond latin-1", "list"],
)
def test_a_token_that_is_none_is_told(gate: Gate, answer: bytes) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{gate.host}/token"'}
    answers(gate, lambda asked: Reply(200, answer) if asked.path.startswith("/token") else Reply(401, b"", challenge))
    with pytest.raises(RegistryError, match="gives no token") as caught:
        Client(gate.host).get_manifest("ml/x", "v1")
    assert caught.value.problem.kind is Kind.MALFORMED


@pytest.mark.parametrize("seconds", ["1" + "0" * 400, "1e999", "-1", "NaN", '"soon"'])
def test_a_token_may_say_any_time_of_its_end(gate: Gate, seconds: str) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{gate.host}/token"'}
    token = Reply(200, f'{{"token": "t", "expires_in": {seconds}}}'.encode())

    def rule(asked: Asked) -> Reply:
        if asked.path.startswith("/token"):
            return token
        return Reply(200, IMAGE) if asked.authorization == "Bearer t" else Reply(401, b"", challenge)

    answers(gate, rule)
    assert Client(gate.host).get_manifest("ml/x", "v1").data == IMAGE


def test_a_registry_token_that_no_header_can_carry_is_named_by_its_host_alone(tmp_path: Path, gate: Gate) -> None:
    log_in(tmp_path, gate.host, registrytoken="s3cret\nrest-of-s3cret")
    answers(gate, lambda _: Reply(401, b"", {"WWW-Authenticate": 'Bearer realm="https://t.example/"'}))
    with pytest.raises(RegistryError) as caught:
        Client(gate.host).get_manifest("ml/x", "v1")
    assert caught.value.problem.kind is Kind.SETTINGS
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "location", ["http://[", "https://[::1", "//a:b:c/", "file:///etc/passwd", "ftp://h/", "\xb2://"]
)
def test_an_address_that_is_none_is_told(gate: Gate, location: str) -> None:
    moved = {"Location": location}
    answers(gate, lambda asked: Reply(404) if asked.method == "HEAD" else Reply(202, b"", moved))
    with pytest.raises(RegistryError) as caught:
        put(gate)
    assert caught.value.problem.kind in (Kind.MALFORMED, Kind.UNREACHABLE, Kind.REFUSED)
    with pytest.raises(RegistryError):
        Client(gate.host).put_blob("ml/x", BLOB)
    answers(gate, lambda _: Reply(307, b"", moved))
    with pytest.raises(RegistryError):
        Client(gate.host).get_blob("ml/x", DIGEST)
    challenge = {"WWW-Authenticate": f'Bearer realm="{location}"'}
    answers(gate, lambda _: Reply(401, b"", challenge))
    with pytest.raises(RegistryError):
        Client(gate.host).get_blob("ml/x", DIGEST)
    link = {"Content-Type": "application/vnd.oci.image.index.v1+json", "Link": f'<{location}>; rel="next"'}
    answers(gate, lambda _: Reply(200, b'{"manifests": []}', link))
    with pytest.raises(RegistryError):
        get_referrers(Client(gate.host), "ml/x", DIGEST)


@pytest.mark.parametrize("wait", ["\xb2", "9" * 5000, "-1", "Mon, 01 Jan 0001 00:00:00 -0000", "Fri, 99 Xyz 1 1:1:1 1"])
def test_a_time_to_wait_that_is_none_is_no_time(gate: Gate, wait: str) -> None:
    answers(gate, lambda _: Reply(429, b"", {"Retry-After": wait}))
    with pytest.raises(RegistryError) as caught:
        Client(gate.host, timeout=1).get_manifest("ml/x", "v1")
    assert caught.value.problem.kind is Kind.RATE


@pytest.mark.parametrize("size", ["\xb2", "9" * 5000])
def test_a_size_that_is_none_is_not_known(gate: Gate, size: str) -> None:
    headers = {"Content-Length": size, "Docker-Content-Digest": DIGEST, "Connection": "close"}
    answers(gate, lambda _: Reply(200, b"", headers))
    found = Client(gate.host).head_manifest("ml/x", "v1")
    assert found and (found.digest, found.size) == (DIGEST, 0)


@pytest.mark.parametrize("arrived", ["0-" + "9" * 5000, "0-\xb2", "5-1", "bytes=0-", "0-99999999999", "-1"])
def test_a_range_that_is_none_tells_of_no_byte(gate: Gate, arrived: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_module, "_WHOLE", 1)
    got = bytearray()

    def rule(asked: Asked) -> Reply:
        if asked.method == "HEAD":
            return Reply(404)
        got.extend(asked.body)
        status = {"POST": 202, "PATCH": 202, "PUT": 201}[asked.method]
        return Reply(status, b"", {"Location": "/upload", "Range": arrived})

    answers(gate, rule)
    put(gate, chunk=2)
    assert got == BLOB


def test_a_blob_is_only_had_by_a_digest_that_can_be_compared(gate: Gate) -> None:
    manifest = {"artifactType": IMAGES_TYPE, "layers": [{"digest": "../manifests/other"}]}
    answers(gate, lambda _: Reply(200, json.dumps(manifest).encode()))
    with pytest.raises(RegistryError) as caught:
        fetch_images(f"{gate.host}/ml/x:v1")
    assert caught.value.problem.kind is Kind.MALFORMED
    assert gate.count("GET", "other") == 0


def test_another_machine_leads_nobody_to_a_server_of_this_one() -> None:
    # What a page of the web may not do to a browser either: ask what only this machine can.
    remote, local = Transport("registry.example.com"), Transport("localhost:5000")
    for url in ("http://127.0.0.1:9200/", "http://localhost/", "http://[::1]/"):
        assert not remote.allows(url)
        assert local.allows(url)
    assert remote.allows("https://storage.example.com/")
    assert not remote.allows("http://storage.example.com/")
    assert Transport("registry.example.com", insecure=True).allows("http://storage.example.com/")


@pytest.mark.parametrize(
    ("host", "url", "same"),
    [
        ("r.example.com", "https://r.example.com/v2/", True),
        ("r.example.com", "https://r.example.com:443/v2/", True),
        ("r.example.com:443", "https://r.example.com/v2/", True),
        ("R.example.com", "https://r.example.com/v2/", True),
        ("docker.io", "https://registry-1.docker.io/v2/", True),
        ("r.example.com", "http://r.example.com/v2/", False),
        ("r.example.com", "https://r.example.com:444/v2/", False),
        ("r.example.com", "https://r.example.com.evil.example/v2/", False),
        ("r.example.com", "https://r.example.com@evil.example/v2/", False),
        ("r.example.com", "https://evil.example\\@r.example.com/v2/", False),
        ("r.example.com", "https://x:y@r.example.com/v2/", False),
        ("r.example.com", "https://[", False),
    ],
)
def test_whose_address_it_is_tells_whether_it_gets_credentials(host: str, url: str, same: bool) -> None:
    assert Transport(host).is_own(url, Deadline(1)) is same


def test_a_password_is_not_sent_where_a_redirect_changes_the_port_alone(tmp_path: Path, gate: Gate) -> None:
    log_in(tmp_path, gate.host, username="me", password="s3cret")
    with Gate() as other:
        other.rule = lambda _: Reply(200, EMPTY)
        moved = {"Location": f"http://{other.host}/blob"}
        challenge = {"WWW-Authenticate": "Basic"}
        answers(gate, lambda asked: Reply(307, b"", moved) if asked.authorization else Reply(401, b"", challenge))
        assert Client(gate.host).get_blob("ml/x", digest_of(EMPTY)) == EMPTY
        assert [asked.authorization for asked in other.asked] == [""]


def _pour(server: socket.socket, status: bytes) -> None:
    """Greet, and answer the second connection with a body that has no end, until nobody takes it."""
    greeted, _ = server.accept()
    with greeted:
        greeted.recv(65536)
        greeted.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    connection, _ = server.accept()
    with connection, contextlib.suppress(OSError):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 " + status + b"\r\nLocation: /again\r\n\r\n")
        while True:
            connection.sendall(bytes(1 << 16))


@pytest.mark.parametrize("status", [b"200 OK", b"404 Not Found", b"307 Moved"])
def test_a_body_without_an_end_is_not_read_to_it(status: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as pouring:
        thread = threading.Thread(target=_pour, args=(pouring, status), daemon=True)
        thread.start()
        host = f"127.0.0.1:{pouring.getsockname()[1]}"
        with pytest.raises(RegistryError, match="the answer has more than"):
            Client(host, timeout=20).get_manifest("ml/x", "v1")
        thread.join(20)
        assert not thread.is_alive()


def test_sessions_of_docker_hub_are_remembered_by_their_own_address(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "uploads")
    monkeypatch.setitem(transport_module._API_HOSTS, "hub.localhost", gate.host)
    headers = {"Location": f"http://{gate.host}/v2/ml/x/blobs/uploads/1"}
    statuses = {"HEAD": 404, "POST": 202, "PUT": 403}
    answers(gate, lambda asked: Reply(statuses[asked.method], b"", headers))
    source = Source(digest_of(BLOB), len(BLOB), lambda offset: io.BytesIO(BLOB[offset:]))
    with pytest.raises(RegistryError):
        Uploader(Client("hub.localhost"), journal).put("ml/x", source, lambda _: None)
    assert journal.recall("hub.localhost", "ml/x", source.digest) == Session(headers["Location"])


def _drip(server: socket.socket) -> None:
    """Answer a byte at a time."""
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n")
                for _ in range(400):
                    connection.sendall(b"x")
                    time.sleep(0.05)


def test_an_answer_that_drips_ends_with_the_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as dripping:
        threading.Thread(target=_drip, args=(dripping,), daemon=True).start()
        began = time.monotonic()
        with pytest.raises(RegistryError) as caught:
            Client(f"127.0.0.1:{dripping.getsockname()[1]}", timeout=0.5).get_manifest("ml/x", "v1")
        assert caught.value.problem.kind is Kind.TIMEOUT
        assert time.monotonic() - began < 10  # of 20 s that it takes to its end
