"""Where the size of a wheel comes from."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mfbazel.lock.resolver.uv import FoundWheel
from mfbazel.lock.wheels.sizes import Sizes

FILE = "alpha-1.0-py3-none-any.whl"


def found(url: str, size: int = -1) -> FoundWheel:
    return FoundWheel("alpha", "1.0", FILE, "a" * 64, size, url)


class Downloads:
    """Counts downloads."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, _wheel: FoundWheel) -> int:
        self.count += 1
        return 7


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers HEAD: a wheel of 12345 bytes, a login page, or a refusal."""

    def do_HEAD(self) -> None:
        self.send_response(401 if "secret" in self.path else 200)
        self.send_header("Content-Length", "12345")
        self.send_header("Content-Type", "text/html" if "login" in self.path else "application/octet-stream")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    """A web server; yields its URL."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty wheel cache."""
    monkeypatch.setenv("MFBAZEL_WHEEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache"


def size(wheel: FoundWheel, known: dict[str, int] | None = None) -> tuple[int, int]:
    downloads = Downloads()
    return Sizes(known or {}, downloads).complete([wheel])["a" * 64], downloads.count


def test_the_index_and_the_old_lock_come_first() -> None:
    assert size(found("http://127.0.0.1:1/x", 5), {"a" * 64: 3}) == (5, 0)
    assert size(found("http://127.0.0.1:1/x"), {"a" * 64: 3}) == (3, 0)


def test_a_local_file_and_the_cache_are_measured(tmp_path: Path, cache: Path) -> None:
    (tmp_path / FILE).write_bytes(b"1234")
    assert size(found(f"file://{tmp_path}/{FILE}")) == (4, 0)
    (cache / ("a" * 64)).mkdir(parents=True)
    (cache / ("a" * 64) / FILE).write_bytes(b"12")
    assert size(found("http://127.0.0.1:1/x")) == (2, 0)


def test_the_web_server_is_asked_before_anything_is_downloaded(server: str) -> None:
    assert size(found(f"{server}/{FILE}")) == (12345, 0)


@pytest.mark.parametrize("path", ["login", "secret"])
def test_a_page_that_is_no_wheel_is_not_measured(server: str, path: str) -> None:
    assert size(found(f"{server}/{path}")) == (7, 1)


@pytest.mark.parametrize("url", ["", "http://user:password@127.0.0.1:x/", "ftp://127.0.0.1/x"])
def test_what_cannot_be_asked_is_downloaded(url: str) -> None:
    assert size(found(url)) == (7, 1)
