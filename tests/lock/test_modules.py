"""Which modules a wheel holds, and how much of it is transferred to know that."""

from __future__ import annotations

import base64
import hashlib
import http.server
import io
import os
import re
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from mfbazel.lock.errors import LockError
from mfbazel.lock.model import Contents
from mfbazel.lock.resolver.uv import FoundWheel
from mfbazel.lock.wheels import modules as subject
from mfbazel.lock.wheels.modules import Modules, modules_of
from mfbazel.lock.wheels.sizes import Sizes
from mfbazel.lock.wheels.web import NoAnswerError, Web

FILE = "alpha-1.0-py3-none-any.whl"
PKGUTIL = "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n"
PKG_RESOURCES = "__import__('pkg_resources').declare_namespace(__name__)\n"


def archive(files: Mapping[str, bytes | str]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        for name, content in files.items():
            target.writestr(name, content)
    return stream.getvalue()


def names(*files: str, **content: str) -> tuple[str, ...]:
    table = {name: content.get(name, "") for name in files}
    with zipfile.ZipFile(io.BytesIO(archive(table))) as opened:
        return modules_of(opened)


def test_packages_modules_and_extension_modules_are_named_once() -> None:
    assert names(
        "pack/__init__.py",
        "pack/inner.py",
        "pack/sub/__init__.py",
        "single.py",
        "old.pyc",
        "_native.cpython-314-x86_64-linux-gnu.so",
        "_free.cpython-314t-x86_64-linux-gnu.so",
        "_stable.abi3.so",
        "_plain.so",
        "built/__init__.cpython-314-aarch64-linux-gnu.so",
        "pack.py",
    ) == ("_free", "_native", "_plain", "_stable", "built", "old", "pack", "single")


def test_of_a_namespace_package_the_names_inside_are_given() -> None:
    assert names(
        "google/cloud/storage/__init__.py",
        "google/cloud/storage/blob.py",
        "google/cloud/version.py",
        "google/_x.abi3.so",
        "ruamel/yaml/__init__.py",
    ) == ("google._x", "google.cloud.storage", "google.cloud.version", "ruamel.yaml")


@pytest.mark.parametrize("declared", [PKGUTIL, PKG_RESOURCES])
def test_namespaces_of_the_older_ways_are_known_by_their_init(declared: str) -> None:
    files = {
        "google/__init__.py": declared,
        "google/cloud/__init__.py": declared,
        "google/cloud/storage/__init__.py": "",
        "own/__init__.py": "x = 1\n",
        "own/sub/__init__.py": declared,
        "mixed/__init__.py": declared,
        "mixed/more.py": "",
        "mixed/sub/__init__.py": "",
    }
    with zipfile.ZipFile(io.BytesIO(archive(files))) as opened:
        assert modules_of(opened) == ("google.cloud.storage", "mixed", "own")


def test_what_cannot_be_imported_is_left_out() -> None:
    assert (
        names(
            "alpha-1.0.dist-info/RECORD",
            "alpha-1.0.dist-info/extra.py",
            "alpha-1.0.data/scripts/tool.py",
            "alpha-1.0.data/headers/x.py",
            "alpha.libs/libx.so",
            "nvidia/lib/libcuda.so",
            "nvidia/lib/libcuda.so.13",
            "pack-stubs/__init__.pyi",
            "docs/readme.txt",
            "a-b.py",
            "x.pth",
            "__pycache__/x.cpython-314.pyc",
            "typed/__init__.pyi",
        )
        == ()
    )


def test_what_lies_in_data_directories_is_installed_beside_the_rest() -> None:
    assert names("alpha-1.0.data/purelib/pure/__init__.py", "alpha-1.0.data/platlib/_n.abi3.so", "top.py") == (
        "_n",
        "pure",
        "top",
    )


class Server(http.server.ThreadingHTTPServer):
    """Serves one file; counts the bytes of answers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = b""
        self.ranges = True
        self.password = ""
        self.sent = 0
        self.requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{FILE}"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers GET with or without ranges."""

    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.requests += 1
        wanted = f"Basic {base64.b64encode(server.password.encode()).decode()}"
        if server.password and self.headers.get("Authorization") != wanted:
            self.send_response(401)
            self.end_headers()
            return
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        begin, end = (int(match[1]), int(match[2]) + 1) if match and server.ranges else (0, len(server.content))
        self.send_response(206 if match and server.ranges else 200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(server.content)}")
        self.send_header("Content-Length", str(end - begin))
        self.end_headers()
        try:
            self.wfile.write(server.content[begin:end])
            server.sent += end - begin
        except OSError:
            pass

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty wheel cache, and a configuration that knows nothing."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("MFBAZEL_WHEEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the wheels that were downloaded instead."""
    found: list[str] = []

    def note(wheel: FoundWheel) -> Contents:
        found.append(wheel.file)
        return Contents(("downloaded",), "MIT")

    monkeypatch.setattr(subject, "_download", note)
    return found


def find(url: str, content: bytes, known: dict[str, tuple[str, ...]] | None = None) -> tuple[str, ...]:
    sha256 = hashlib.sha256(content).hexdigest()
    wheel = FoundWheel("alpha", "1.0", FILE, sha256, len(content), url)
    modules = Modules({sha: Contents(names, "MIT") for sha, names in (known or {}).items()})
    return modules.complete([wheel], {sha256: len(content)})[sha256].modules


LARGE = archive(
    {
        "pack/__init__.py": "",
        "pack/data.bin": os.urandom(8_000_000),
        "google/__init__.py": PKGUTIL,
        "google/more.bin": os.urandom(2_000_000),
        "google/x/__init__.py": "",
    }
)
MANY = archive({f"pack/sub{number}/__init__.py": os.urandom(1000) for number in range(4000)} | {"pack/__init__.py": ""})


def test_only_the_end_of_a_wheel_is_transferred(server: Server, downloads: list[str]) -> None:
    server.content = LARGE
    assert find(server.url, LARGE) == ("google.x", "pack")
    assert server.sent <= 200_000 < len(LARGE) / 50
    assert server.requests <= 3
    assert not downloads


def test_the_licence_comes_with_the_same_requests(server: Server, downloads: list[str]) -> None:
    metadata = "Metadata-Version: 2.4\nName: alpha\nLicense-Expression: MIT\n\nText\n"
    files: dict[str, bytes | str] = {"alpha.py": "", "data.bin": os.urandom(3_000_000)}
    files["alpha-1.0.dist-info/METADATA"] = metadata
    server.content = content = archive(files)
    sha256 = hashlib.sha256(content).hexdigest()
    wheel = FoundWheel("alpha", "1.0", FILE, sha256, len(content), server.url)
    assert Modules().complete([wheel], {sha256: len(content)}) == {sha256: Contents(("alpha",), "MIT")}
    assert server.requests == 1
    assert not downloads


def test_a_list_of_files_longer_than_the_first_answer_needs_one_more_request(
    server: Server, downloads: list[str]
) -> None:
    server.content = MANY
    assert find(server.url, MANY) == ("pack",)
    assert server.requests == 2
    assert server.sent < len(MANY) / 10
    assert not downloads


def test_a_small_wheel_is_one_request(server: Server, downloads: list[str]) -> None:
    server.content = archive({"small.py": ""})
    assert find(server.url, server.content) == ("small",)
    assert server.requests == 1
    assert not downloads


@pytest.mark.parametrize("why", ["no ranges", "unreachable", "no archive", "another size", "password"])
def test_what_cannot_be_asked_is_downloaded(server: Server, downloads: list[str], why: str) -> None:
    server.content = b"x" * 100_000 if why == "no archive" else LARGE
    server.ranges = why != "no ranges"
    server.password = "user:secret" if why == "password" else ""
    url = "http://127.0.0.1:1/x.whl" if why == "unreachable" else server.url
    content = LARGE + b"x" if why == "another size" else server.content
    assert find(url, content) == ("downloaded",)
    assert downloads == [FILE]
    assert server.sent < len(LARGE)


def test_a_server_that_cannot_be_reached_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    web = Web()
    asked: list[str] = []

    def refuse(request: urllib.request.Request, **_options: object) -> None:
        asked.append(request.full_url)
        raise urllib.error.URLError("refused")

    monkeypatch.setattr(web._opener, "open", refuse)
    for name in ("a", "b"):
        with pytest.raises(NoAnswerError):
            web.open(f"http://me:secret@127.0.0.1:1/{name}")
    assert asked == ["http://127.0.0.1:1/a"]


@pytest.mark.parametrize("where", ["url", "index", "netrc"])
def test_credentials_are_those_of_the_index(
    server: Server, downloads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    server.content, server.password = LARGE, "me:p@ss"
    url = server.url
    if where == "url":
        url = url.replace("http://", "http://me:p%40ss@")
    elif where == "index":
        place = f"127.0.0.1:{server.server_port}"
        monkeypatch.setenv("PIP_INDEX_URL", f"http://me:p%40ss@{place}/simple")
    else:
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password p@ss\n", encoding="utf-8")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert find(url, LARGE) == ("google.x", "pack")
    assert not downloads


def test_the_old_lock_a_local_file_and_the_cache_come_first(
    tmp_path: Path, cache: Path, downloads: list[str], server: Server
) -> None:
    known, local, cached = (archive({f"{name}.py": ""}) for name in ("known", "local", "cached"))
    assert find(server.url, known, {hashlib.sha256(known).hexdigest(): ("other",)}) == ("other",)
    (tmp_path / FILE).write_bytes(local)
    assert find(f"file://{tmp_path}/{FILE}", local) == ("local",)
    place = cache / hashlib.sha256(cached).hexdigest()
    place.mkdir(parents=True)
    (place / FILE).write_bytes(cached)
    assert find(server.url, cached) == ("cached",)
    assert server.requests == 0
    assert not downloads


def test_a_wheel_is_asked_once_by_all_locks_of_a_machine(server: Server, downloads: list[str], cache: Path) -> None:
    server.content = LARGE
    assert find(server.url, LARGE) == ("google.x", "pack")
    asked = server.requests
    assert find(server.url, LARGE) == ("google.x", "pack")
    wheel = FoundWheel("alpha", "1.0", FILE, hashlib.sha256(LARGE).hexdigest(), -1, server.url)
    assert Sizes().complete([wheel]) == {wheel.sha256: len(LARGE)}
    assert server.requests == asked
    assert not downloads
    (told,) = cache.glob("*/told-*.json")
    for damaged in ("", "{", "[]", '{"size": 3, "modules": "x", "license": "MIT"}'):
        told.write_text(damaged, encoding="utf-8")
        assert find(server.url, LARGE) == ("google.x", "pack")
    assert server.requests > asked


def test_a_cache_that_cannot_be_written_is_no_failure(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.content = LARGE
    monkeypatch.setenv("MFBAZEL_WHEEL_CACHE", "/dev/null/cache")
    assert find(server.url, LARGE) == ("google.x", "pack")


def test_a_local_wheel_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no zip")
    with pytest.raises(LockError, match=rf"{FILE}: cannot read the wheel"):
        find(f"file://{tmp_path}/{FILE}", b"no zip")
