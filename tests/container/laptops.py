"""One engine after the other, and the images that the build made of the churn flow."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from mfbazel.container.bazel import read_built
from tests.e2e.containers import Engine, containers_for_ordinary_users_are_optional, search_path, why_no_containers

ROOT = Path(__file__).absolute().parents[2]
BUILT = ROOT / "examples" / "churn"
ENGINES = ("bubblewrap", "podman")

# What answers in the place of Bazel: the images were built before the test.
BAZEL = """
import json, os, sys
from pathlib import Path
root, record = Path(sys.argv[1]), Path(sys.argv[2])
record.write_text(json.dumps({"arguments": sys.argv[3:], "directory": os.getcwd()}))
(events,) = [word.partition("=")[2] for word in sys.argv if word.startswith("--build_event_json_file=")]
files = [root / "churn_flow.images" / "images.json", *root.rglob("index.json", recurse_symlinks=True)]
said = {"namedSetOfFiles": {"files": [{"uri": file.as_uri()} for file in files]}}
Path(events).write_text(json.dumps({"id": {}}) + chr(10) + json.dumps(said) + chr(10))
print("as Bazel would say", file=sys.stderr)
"""


@dataclass(frozen=True)
class Laptop:
    """A directory and an environment in which a person starts things."""

    directory: Path
    engine: str
    environ: dict[str, str]
    podman: Engine | None

    @property
    def work(self) -> Path:
        """Where the command is typed."""
        return self.directory / "work"

    def left(self) -> list[str]:
        """Return what is still there: containers, and processes that name the working directory."""
        found = self.podman.listed() if self.podman is not None else []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if str(self.work) in words and int(process.name) != os.getpid():
                    found.append(words)
        return found


@contextlib.contextmanager
def started_laptop(engine: str) -> Iterator[Laptop]:
    """Make the directories, and podman's own storage.

    A test is skipped where this machine lacks its engine, as a user's may: each step can run by any of them. The
    toolbox has both, so that nothing is skipped there, and as root nothing that podman refuses is.
    """
    # Sockets have short paths.
    with tempfile.TemporaryDirectory(prefix="mfbazel-c.") as scratch, contextlib.ExitStack() as stack:
        directory = Path(scratch)
        for name in ("work", "workspace", "engine", "home"):
            (directory / name).mkdir()
        environ, podman = {"HOME": str(directory / "home")}, None
        if engine == "podman":
            if reason := why_no_containers():
                pytest.skip(reason)
            with containers_for_ordinary_users_are_optional():
                podman = Engine(directory / "engine", "127.0.0.1:1", {}, directory / "podman.log")
                stack.enter_context(podman)
            environ = podman.environ
        elif not shutil.which("bwrap", path=search_path()):
            pytest.skip("bubblewrap is not installed (Debian: apt install bubblewrap)")
        variables = {
            "PATH": search_path(),
            "USER": "tester",
            "LANG": "C.UTF-8",
            "BUILD_WORKING_DIRECTORY": str(directory / "work"),
            "BUILD_WORKSPACE_DIRECTORY": str(directory / "workspace"),
            "XDG_CACHE_HOME": str(directory / "cache"),
            "MFBAZEL_BAZEL": shlex.join([sys.executable, "-c", BAZEL, str(BUILT), str(directory / "bazel.json")]),
        }
        yield Laptop(directory, engine, {**environ, **variables}, podman)


def layouts() -> dict[str, Path]:
    """Return the layout of each step's image."""
    places = os.walk(BUILT, followlinks=True)
    indexes = [Path(place, "index.json") for place, _, names in places if "index.json" in names]
    files: Sequence[Path] = [BUILT / "churn_flow.images" / "images.json", *indexes]
    return dict(read_built(files, "the images").steps)


def wait(condition: Callable[[], bool], what: str, seconds: float = 90) -> None:
    """Wait until ``condition`` holds, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.1)
