"""A container engine of the test's own: podman with runc, and nothing of the machine's settings or storage."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.processes import LOOPBACK, Service, ServiceError

_MNT_DETACH = 2  # umount2(2)
_POLICY = {"default": [{"type": "insecureAcceptAnything"}]}
# Where only one user exists, tar in a container, as its root, could not give files to the user that an archive names:
# changing an owner does nothing, and succeeds (seccomp.json of runtime-spec 1.2).
_FAKE_CHOWN = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["chown", "fchown", "fchownat", "lchown"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0}],
}
_PROGRAMS = ("podman", "runc", "conmon")
_STORAGE_DRIVERS = ("overlay", "vfs")  # the first where the file system allows it


class EngineError(ServiceError):
    """Containers cannot be started here."""


@dataclass(frozen=True)
class Container:
    """A container that was started."""

    name: str
    image: str
    """Reference of its image as it was asked for."""


def why_no_containers() -> str:
    """Return what this machine lacks to start containers; empty where it lacks nothing that can be seen at once."""
    if not sys.platform.startswith("linux"):
        return f"containers need Linux, and this is {sys.platform}"
    if missing := [name for name in _PROGRAMS if not shutil.which(name, path=search_path())]:
        return f"these programs are not installed: {', '.join(missing)} (Debian: apt install podman runc)"
    return ""


def search_path() -> str:
    """Return PATH with the directories of administrators' programs, which Bazel leaves out of it."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


@contextlib.contextmanager
def containers_for_ordinary_users_are_optional() -> Iterator[None]:
    """Skip where an ordinary user cannot start containers, with the engine's reason. Root can, or the test fails."""
    try:
        yield
    except EngineError as error:
        if os.geteuid() == 0:
            raise
        pytest.skip(f"{error}\nRun the test as root, or as a user who may make user namespaces.")


class Engine(Service):
    """``podman system service``, and everything that it leaves in one directory.

    The path of the directory must be short: those of the sockets in it have to stay below 108 bytes (unix(7)).
    It also works for an ordinary user who may make user namespaces: everybody in a container is that user then.
    """

    def __init__(self, directory: Path, registry: str, variables: Mapping[str, str], log: Path) -> None:
        """Describe an engine in ``directory``, which exists.

        Args:
            directory: for storage, sockets and settings.
            registry: host and port of a registry that speaks plain HTTP.
            variables: environment variables of every container.
            log: where the service's output goes.
        """
        self._directory = directory
        self._events = directory / "events.log"
        socket = directory / "engine.sock"
        self.address = f"unix://{socket}"
        environ = self._configure(registry, variables)
        self._podman = [str(shutil.which("podman", path=search_path()))]
        command = [*self._podman, "system", "service", "--time=0", self.address]
        super().__init__(command, environ, log, socket.is_socket)

    def __enter__(self) -> Engine:
        """Start the service.

        Raises:
            EngineError: podman does not work here.
            ServiceError: the service does not start.
        """
        try:
            self._choose_storage()
            super().__enter__()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Remove every container, end the service, and detach what is still mounted in the directory."""
        self._run("rm", "--all", "--force", "--time=0")
        super().stop()
        if not _is_root():  # ends the process that keeps the user namespace
            self._run("system", "migrate")
        for mounted in _mounts_below(self._directory):
            ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(mounted), _MNT_DETACH)

    def started(self) -> list[Container]:
        """Return every container that was started, in that order; it may be gone."""
        return [Container(event["Name"], event["Image"]) for event in self._events_of("start")]

    def pulled(self) -> list[str]:
        """Return every reference that was pulled."""
        return [event["Name"] for event in self._events_of("pull")]

    def listed(self) -> list[str]:
        """Return the name and the command of every container that is there, running or not."""
        listed = self._run("ps", "--all", "--no-trunc", "--format={{.Names}} {{.Command}}", check=True)
        return listed.stdout.splitlines()

    def run(self, image: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a container of ``image``, and wait for it."""
        return self.run_with([], image, *command)

    def run_with(self, options: Sequence[str], image: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a container of ``image`` that has further ``options`` of podman-run(1)."""
        return self._run("run", "--rm", *options, image, *command)

    def run_pod(
        self,
        name: str,
        image: str,
        command: Sequence[str],
        variables: Mapping[str, str],
        hosts: Sequence[str] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Run a container as a node of Kubernetes does, and wait for it.

        Args:
            name: of the container.
            image: reference of the image; it is pulled where it is missing.
            command: what takes the place of the image's entrypoint and command.
            variables: environment variables, besides those of every container.
            hosts: further names of this machine in the container.
        """
        options = [f"--env={name}={value}" for name, value in variables.items()]
        options += [f"--add-host={host}:{LOOPBACK}" for host in hosts]
        return self._run("run", "--rm", f"--name={name}", f"--entrypoint={json.dumps(list(command))}", *options, image)

    def pull(self, source: str) -> str:
        """Pull an image, ``oci:<layout directory>`` for example, and return its ID.

        Raises:
            EngineError: that failed; the message is podman's.
        """
        done = self._run("pull", "--quiet", source)
        if done.returncode:
            raise EngineError(f"podman cannot pull {source}: {done.stderr.strip()}")
        return done.stdout.strip()

    def require_containers(self, image: str) -> None:
        """Start a container of ``image`` that does nothing.

        Raises:
            EngineError: that failed; the message is podman's.
        """
        done = self.run(image, "true")
        if done.returncode:
            raise EngineError(f"podman with runc cannot start a container here: {done.stderr.strip()}")

    def image_variables(self, image: str) -> dict[str, str]:
        """Return the environment variables in the configuration of an image that was pulled."""
        done = self._run("image", "inspect", "--format", "{{json .Config.Env}}", image, check=True)
        return dict(entry.split("=", 1) for entry in json.loads(done.stdout))

    def _events_of(self, status: str) -> list[dict[str, str]]:
        done = self._run("events", "--stream=false", "--format=json", f"--filter=event={status}", check=True)
        return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]

    def _run(self, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        """Run podman beside the service, on the same storage."""
        return subprocess.run(
            [*self._podman, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self.environ,
            check=check,
        )

    def _configure(self, registry: str, variables: Mapping[str, str]) -> dict[str, str]:
        """Write the settings; return the environment that makes podman read them and no others."""
        home = self._directory / "home"
        policy = home / ".config" / "containers" / "policy.json"
        policy.parent.mkdir(parents=True)
        policy.write_text(json.dumps(_POLICY), encoding="utf-8")
        registries = self._directory / "registries.conf"
        registries.write_text(f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n', encoding="utf-8")
        runtime = self._directory / "runtime"
        runtime.mkdir(0o700)
        settings = self._directory / "containers.conf"
        settings.write_text(self._settings(variables), encoding="utf-8")
        return {
            "CONTAINERS_CONF": str(settings),
            "CONTAINERS_REGISTRIES_CONF": str(registries),
            "CONTAINERS_STORAGE_CONF": str(self._directory / "storage.conf"),
            "HOME": str(home),
            "NO_PROXY": LOOPBACK,
            "PATH": search_path(),
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
            "TMPDIR": str(self._directory),
            "XDG_RUNTIME_DIR": str(runtime),
        }

    def _settings(self, variables: Mapping[str, str]) -> str:
        """Return containers.conf(5): the machine's network, and nothing that only some machines grant."""
        seccomp = self._directory / "seccomp.json"
        seccomp.write_text(json.dumps(_FAKE_CHOWN), encoding="utf-8")
        return "\n".join(
            [
                "[containers]",
                'netns = "host"',
                "http_proxy = false",
                "pids_limit = 0",
                'log_driver = "k8s-file"',
                f"default_ulimits = {json.dumps(_limits())}",
                *([] if _is_root() else [f'seccomp_profile = "{seccomp}"']),
                f"env = {json.dumps([f'{name}={value}' for name, value in sorted(variables.items())])}",
                "[engine]",
                'runtime = "runc"',
                'cgroup_manager = "cgroupfs"',
                'lock_type = "file"',
                'events_logger = "file"',
                f'events_logfile_path = "{self._events}"',
                f'tmp_dir = "{self._directory / "tmp"}"',
                "",
            ]
        )

    def _choose_storage(self) -> None:
        """Write storage.conf (containers-storage.conf(5)) with the first driver that podman accepts here.

        Each has a directory of its own: podman's database is in it, and remembers the driver.

        Raises:
            EngineError: podman accepts none.
        """
        refused = []
        for driver in _STORAGE_DRIVERS:
            self._directory.joinpath("storage.conf").write_text(
                f'[storage]\ndriver = "{driver}"\n'
                f'graphroot = "{self._directory / driver}"\nrunroot = "{self._directory / "run"}"\n'
                f"[storage.options.{driver}]\nignore_chown_errors = {json.dumps(str(not _is_root()).lower())}\n",
                encoding="utf-8",
            )
            done = self._run("info")
            if done.returncode == 0:
                return
            refused.append(f"{driver}: {done.stderr.strip()}")
        raise EngineError("podman does not work here:\n" + "\n".join(refused))


def _is_root() -> bool:
    return os.geteuid() == 0


def _limits() -> list[str]:
    """Return limits of containers that do not exceed this process's own, as podman's would."""
    limits = []
    for name, kind, wanted in (("nofile", resource.RLIMIT_NOFILE, 4096), ("nproc", resource.RLIMIT_NPROC, -1)):
        hard = resource.getrlimit(kind)[1]
        value = wanted if hard == resource.RLIM_INFINITY else hard if wanted < 0 else min(wanted, hard)
        limits.append(f"{name}={value}:{value}")
    return limits


def _mounts_below(directory: Path) -> list[str]:
    """Return where something is mounted in ``directory``, the deepest first (proc_pid_mountinfo(5))."""
    found = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
            where = line.split(" ")[4].encode().decode("unicode_escape")
            if Path(where).is_relative_to(directory):
                found.append(where)
    return sorted(found, key=len, reverse=True)
