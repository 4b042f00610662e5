"""Real registries on loopback for tests: docker's (distribution) and crane's, as processes that end with the test."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.push_rig import find_crane, free_port

USERNAME, PASSWORD = "pusher", "pushing-s3cret"
"""Whom a registry with ``password`` lets in."""
_BCRYPT = (
    "$2b$04$abcdefghijklmnopqrstuukX244lj.NJQ6rB4oUZYYjmPJLGAni8W"  # of PASSWORD; docker's registry takes no other
)
_SECONDS = 20
_LOOPBACK = "127.0.0.1"

# Mounts a file system of a limited size over a directory, which only the program that it then becomes sees.
_ON_SMALL_DISK = """\
import ctypes, os, sys
directory, size, *command = sys.argv[1:]
uid, gid = os.getuid(), os.getgid()
os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNS)
for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
    with open(f"/proc/self/{name}", "w") as stream:
        stream.write(text)
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"tmpfs", directory.encode(), b"tmpfs", 0, f"size={size}".encode()):
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), directory)
os.execvp(command[0], command)
"""


@dataclass
class Registry:
    """A running registry.

    Attributes:
        kind: ``docker`` or ``crane``.
        host: ``127.0.0.1:port``; plain HTTP.
        storage: the directory with its content.
        log: what it says.
        command: how it is started.
        process: the running one.
    """

    kind: str
    host: str
    storage: Path
    log: Path
    command: Sequence[str]
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            RuntimeError: it does not come up; what it said is in the message.
        """
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                connection = http.client.HTTPConnection(self.host, timeout=_SECONDS)
                connection.request("GET", "/v2/")
                connection.getresponse().read()
                connection.close()
                return
            except OSError:
                time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"{self.kind}'s registry did not come up: {self.log.read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        """Kill it, which leaves its storage as it is."""
        self.process.kill()
        self.process.wait()

    def fill(self) -> None:
        """Leave no room on its disk, which is a small one."""
        with self.filler.open("wb", buffering=0) as stream:
            for size in (1 << 16, 1):
                try:
                    while True:
                        stream.write(bytes(size))
                except OSError:  # what this is about
                    continue

    def free(self) -> None:
        """Make room again."""
        self.filler.unlink()

    @property
    def filler(self) -> Path:
        """The file that takes the room; a small disk is seen by the process of the registry alone."""
        return Path(f"/proc/{self.process.pid}/root{self.storage}/filler")


def docker_registry_program() -> Path:
    """Return docker's registry: ``docker-registry`` on PATH, as in the toolbox.

    Raises:
        FileNotFoundError: there is none.
    """
    found = shutil.which("docker-registry")
    if not found:
        raise FileNotFoundError("no docker-registry on PATH (Debian: `apt install docker-registry`)")
    return Path(found)


@contextmanager
def docker_registry(directory: Path, *, password: bool = False, disk: int = 0) -> Iterator[Registry]:
    """Run docker's registry with its files in ``directory``.

    Args:
        directory: made when it is missing.
        password: let in :data:`USERNAME` with :data:`PASSWORD` only.
        disk: bytes of a file system of its own for the storage, gone with the process; 0 for the directory's.
    """
    storage = directory / "storage"
    storage.mkdir(parents=True, exist_ok=True)
    host = f"{_LOOPBACK}:{free_port()}"
    config: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(storage)},
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        # With a secret of its own it would not know its upload sessions after a restart.
        "http": {"addr": host, "secret": "of the test"},
    }
    if password:
        (directory / "htpasswd").write_text(f"{USERNAME}:{_BCRYPT}\n")
        config["auth"] = {"htpasswd": {"realm": "the registry", "path": str(directory / "htpasswd")}}
    (directory / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    command = [str(docker_registry_program()), "serve", str(directory / "config.yml")]
    with _running(Registry("docker", host, storage, directory / "log", _on_disk(storage, disk, command))) as running:
        yield running


@contextmanager
def crane_registry(directory: Path, *, disk: int = 0) -> Iterator[Registry]:
    """Run crane's registry with its blobs in ``directory``; manifests and uploads are in its memory.

    Args:
        directory: made when it is missing.
        disk: see :func:`docker_registry`.
    """
    storage = directory / "storage"
    storage.mkdir(parents=True, exist_ok=True)
    host = f"{_LOOPBACK}:{free_port()}"
    command = [str(find_crane()), "registry", "serve", "--address", host, "--disk", str(storage)]
    with _running(Registry("crane", host, storage, directory / "log", _on_disk(storage, disk, command))) as running:
        yield running


REGISTRIES = {"docker": docker_registry, "crane": crane_registry}
"""The registries by their kinds."""


@contextmanager
def _running(registry: Registry) -> Iterator[Registry]:
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()


def _on_disk(storage: Path, size: int, command: list[str]) -> list[str]:
    if not size:
        return command
    return [sys.executable, "-c", _ON_SMALL_DISK, os.fspath(storage.resolve()), str(size), *command]
