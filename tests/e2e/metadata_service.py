"""Metaflow's metadata service, as far as a run and its client need it.

Metaflow's local metadata would do for a run, but not for @card on a remote step: what renders the card looks the task
up, and a container does not have the launching machine's files. The requests are those that
``metaflow.plugins.metadata_providers.service`` makes.
"""

from __future__ import annotations

import itertools
import json
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.e2e.http_server import HttpServer

_VERSION = "2.4.0"  # what the service says of itself; attempts can be asked for, heartbeats are heard

Object = dict[str, Any]


class MetadataStore:
    """Flows, runs, steps, tasks, artifacts and metadata by their path, in memory; usable from several threads."""

    def __init__(self) -> None:
        """Hold nothing."""
        self._lock = threading.Lock()
        self._objects: dict[str, Object] = {}
        self._numbers = itertools.count(1)

    def get(self, path: str) -> Object | list[Object] | None:
        """Return the object at ``path``, or those of a collection below an object; None where there is neither."""
        with self._lock:
            if path in self._objects:
                return self._objects[path]
            if path.rpartition("/")[0] not in self._objects:
                return None
            parent = path + "/"
            return [
                found
                for place, found in self._objects.items()
                if place.startswith(parent) and "/" not in place[len(parent) :]
            ]

    def post(self, path: str, content: Any) -> Any:
        """Add what is posted to ``path``; return the object, with its number, where there is one."""
        above, _, kind = path.rpartition("/")
        with self._lock:
            if kind == "artifact":
                for artifact in content:
                    self._objects[f"{above}/artifacts/{artifact['name']}"] = artifact
            elif kind == "metadata":
                for entry in content:
                    self._objects[f"{path}/{next(self._numbers)}"] = {"id": next(self._numbers), **entry}
            elif kind in ("run", "task"):
                number = "run_number" if kind == "run" else "task_id"
                content = {number: next(self._numbers), **content}
                self._objects[f"{above}/{kind}s/{content[number]}"] = content
            elif kind == "step":
                self._objects[above] = content
            elif kind == "heartbeat":
                return json.dumps({"wait_time_in_seconds": 10})
            else:
                self._objects[path] = content
        return content


class MetadataService(HttpServer):
    """The service, on a free port of loopback."""

    def __init__(self) -> None:
        """Bind the port."""
        store = MetadataStore()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.strip("/") == "ping":
                    self._answer(200, "pong")
                    return
                found = store.get(self.path)
                self._answer(404 if found is None else 200, found)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                self._answer(200, store.post(self.path, json.loads(body)))

            def _answer(self, status: int, content: Any) -> None:
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.send_header("METADATA_SERVICE_VERSION", _VERSION)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *arguments: object) -> None:
                """Print nothing."""

        super().__init__(Handler)
