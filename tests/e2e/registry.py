"""A container registry on loopback."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from tests.e2e.processes import LOOPBACK, Service, free_port


class Registry(Service):
    """``crane registry serve``; speaks plain HTTP."""

    def __init__(self, crane: Path, directory: Path, log: Path) -> None:
        """Serve ``directory``, which exists, with the program ``crane``."""
        self.host = f"{LOOPBACK}:{free_port()}"
        super().__init__(
            [crane, "registry", "serve", "--address", self.host, "--disk", directory],
            {"TMPDIR": str(directory)},
            log,
            self._answers,
        )

    def _answers(self) -> bool:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://{self.host}/v2/") as answer:
            return bool(answer.status == 200)
