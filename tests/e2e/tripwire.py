"""A server that stands in for every package index, and hears of every attempt to install something."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler

from tests.e2e.http_server import HttpServer
from tests.e2e.processes import LOOPBACK

# Amazon's metadata service: Metaflow asks it about the machine, and does without an answer.
_METADATA = "169.254.169.254"


class Tripwire(HttpServer):
    """Refuses, and remembers, whatever a container asks of an index or, through a proxy, of the world."""

    def __init__(self) -> None:
        """Bind a free port of loopback."""
        requests: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def _refuse(self) -> None:
                requests.append(f"{self.command} {self.path}")
                self.send_error(503, "nothing is installed when tasks start")

            do_GET = do_HEAD = do_POST = do_PUT = do_CONNECT = _refuse

            def log_message(self, format: str, *arguments: object) -> None:
                """Print nothing."""

        super().__init__(Handler)
        self.requests = requests
        """Method and address of every request."""

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables that lead pip, uv, conda and any HTTP client here; loopback stays reachable."""
        proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), self.address)
        direct = dict.fromkeys(("no_proxy", "NO_PROXY"), f"{LOOPBACK},localhost,{_METADATA}")
        return {
            "PIP_INDEX_URL": f"{self.address}/simple",
            "PIP_RETRIES": "0",
            "UV_INDEX_URL": f"{self.address}/simple",
            "CONDA_CHANNELS": f"{self.address}/conda",
            **proxies,
            **direct,
        }
