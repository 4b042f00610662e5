"""An HTTP proxy as companies have them, for tests: CONNECT for TLS, absolute addresses for plain HTTP."""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

_SECONDS = 30.0


@dataclass
class ForwardProxy:
    """A running proxy.

    Attributes:
        names: where to connect to for ``host:port``; it knows no other names.
        refusal: the status line's end (``403 Forbidden``) of all answers, while it lets nobody through.
        asked: method and target of the requests so far.
        port: on 127.0.0.1.
    """

    names: Mapping[str, str]
    refusal: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    port: int = 0

    @property
    def variables(self) -> dict[str, str]:
        """The variables that lead clients to it."""
        url = f"http://127.0.0.1:{self.port}"
        return {**dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), url), "NO_PROXY": ""}

    def __call__(self, client: socket.socket) -> None:
        """Serve one connection."""
        stream = client.makefile("rb")
        method, target, _ = stream.readline().decode("latin-1").split(" ", 2)
        headers = list(iter(lambda: stream.readline().decode("latin-1").strip(), ""))
        self.asked.append((method, target))
        place = target if method == "CONNECT" else target.split("/")[2]
        place = self.names.get(place if ":" in place else f"{place}:80", "")
        status = self.refusal or ("" if place else "502 Unknown host")
        if status:
            client.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            return
        host, _, port = place.rpartition(":")
        with socket.create_connection((host, int(port)), _SECONDS) as upstream:
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                kept = [line for line in headers if not line.lower().startswith(("connection", "proxy-connection"))]
                lines = [f"{method} /{target.split('/', 3)[3]} HTTP/1.1", *kept, "Connection: close", "", ""]
                upstream.sendall("\r\n".join(lines).encode("latin-1"))
                upstream.sendall(stream.read1() if _has_body(headers) else b"")
            _exchange(client, upstream)


def _has_body(headers: list[str]) -> bool:
    lengths = [line.partition(":")[2].strip() for line in headers if line.lower().startswith("content-length:")]
    return lengths not in ([], ["0"])


def _exchange(one: socket.socket, other: socket.socket) -> None:
    """Pass on bytes in both directions until one side ends."""
    partners = {one: other, other: one}
    while True:
        ready, _, _ = select.select(list(partners), [], [], _SECONDS)
        if not ready:
            return
        for source in ready:
            data = source.recv(1 << 16)
            if not data:
                return
            partners[source].sendall(data)


@contextmanager
def forward_proxy(names: Mapping[str, str]) -> Iterator[ForwardProxy]:
    """Run a proxy on loopback."""
    proxy = ForwardProxy(names)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                proxy(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        proxy.port = int(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
