"""buildah, or podman, which holds the same builder, with settings and storage of its own in one directory."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import subprocess
from pathlib import Path

from bench.layer_making import Usage, measure

_BASE = "localhost/base:bench"
_IMAGE = "localhost/image:bench"
_POLICY = {"default": [{"type": "insecureAcceptAnything"}]}
_MNT_DETACH = 2  # umount2(2)
_DOCKERFILE = f"""\
FROM {_BASE}
RUN /bench/uv venv /opt/venv && VIRTUAL_ENV=/opt/venv /bench/uv pip install --no-cache --no-deps --no-index \\
    --find-links /bench/wheels --require-hashes --requirement /bench/requirements.txt
"""


class BuildahError(Exception):
    """buildah cannot be used here, or a build failed; the message says why."""


class Buildah:
    """Builds images from a Dockerfile that installs wheels of this machine into a virtual environment with uv.

    ``RUN`` is isolated by chroot, as in a build that itself runs in a container: this asks least of the machine.
    """

    def __init__(self, directory: Path) -> None:
        """Write the settings.

        Args:
            directory: for storage and settings; exists. Its file system decides how fast storage is.

        Raises:
            BuildahError: neither buildah nor podman is installed.
        """
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
        program = shutil.which("buildah", path=path) or shutil.which("podman", path=path)
        if not program:
            raise BuildahError("neither buildah nor podman is installed (Debian: apt-get install buildah)")
        self.name = Path(program).name
        self._program = program
        self._directory = directory
        self._log = directory / "log"
        self._environment = {**_settings(directory), "PATH": path}

    def take_base(self, layout: Path) -> None:
        """Put the image of an OCI layout into the storage.

        Raises:
            BuildahError: it cannot be read, or there can be no storage here.
        """
        copy = self._directory / "base"
        shutil.copytree(layout, copy)  # the blobs of a layout that Bazel built may be links
        self._run("pull", "--quiet", f"oci:{copy}")
        self._run("tag", self._log.read_text(encoding="utf-8").split()[-1], _BASE)

    def build(self, uv: Path, wheels: Path, requirements: Path) -> Usage:
        """Build the image: ``requirements`` (with hashes) from the directory ``wheels``.

        Raises:
            BuildahError: the build failed.
        """
        context = self._directory / "context"
        context.mkdir(exist_ok=True)
        (context / "Dockerfile").write_text(_DOCKERFILE, encoding="utf-8")
        mounts = {uv: "/bench/uv", wheels: "/bench/wheels", requirements: "/bench/requirements.txt"}
        volumes = [f"--volume={source.resolve()}:{target}:ro" for source, target in mounts.items()]
        options = ["--isolation=chroot", "--layers=false", "--pull=never", f"--tag={_IMAGE}"]
        return self._run("build", *options, *volumes, context)

    def push(self) -> tuple[Usage, int]:
        """Write the image with compressed layers to an OCI layout; return also the bytes of the layer above the base.

        Raises:
            BuildahError: that failed.
        """
        layout = self._directory / "pushed"
        usage = self._run("push", _IMAGE, f"oci:{layout}:bench")
        (entry,) = json.loads((layout / "index.json").read_bytes())["manifests"]
        manifest = json.loads((layout / "blobs" / entry["digest"].replace(":", "/")).read_bytes())
        return usage, int(manifest["layers"][-1]["size"])

    def remove_image(self) -> None:
        """Remove the image from the storage and what was pushed, and keep the base."""
        self._run("rmi", "--force", _IMAGE)
        shutil.rmtree(self._directory / "pushed", ignore_errors=True)

    def close(self) -> None:
        """Detach what is mounted in the directory, so that it can be removed."""
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()[::-1]:
            where = line.split(" ")[4].encode().decode("unicode_escape")
            if Path(where).is_relative_to(self._directory):
                ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(where), _MNT_DETACH)

    def _run(self, *arguments: str | Path) -> Usage:
        try:
            return measure([self._program, *arguments], self._directory, self._environment, self._log)
        except subprocess.CalledProcessError as error:
            command = " ".join(map(str, [self.name, *arguments]))
            raise BuildahError(f"`{command}` failed with {error.returncode}:\n{error.output}") from error


def _settings(directory: Path) -> dict[str, str]:
    """Write the settings; return the environment that makes the program read them and no others."""
    home, runtime, temporary = directory / "home", directory / "runtime", directory / "tmp"
    policy = home / ".config" / "containers" / "policy.json"
    policy.parent.mkdir(parents=True)
    policy.write_text(json.dumps(_POLICY), encoding="utf-8")
    runtime.mkdir(0o700)
    temporary.mkdir()
    containers, storage = directory / "containers.conf", directory / "storage.conf"
    containers.write_text(
        f'[containers]\nnetns = "host"\npids_limit = 0\ndefault_ulimits = {json.dumps(_limits())}\n'
        '[engine]\ncgroup_manager = "cgroupfs"\nlock_type = "file"\nevents_logger = "none"\n',
        encoding="utf-8",
    )
    storage.write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{directory / "storage"}"\nrunroot = "{directory / "run"}"\n',
        encoding="utf-8",
    )
    return {
        "CONTAINERS_CONF": str(containers),
        "CONTAINERS_STORAGE_CONF": str(storage),
        "HOME": str(home),
        "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
        "TMPDIR": str(temporary),
        "XDG_RUNTIME_DIR": str(runtime),
    }


def _limits() -> list[str]:
    """Return limits of containers that do not exceed this process's own, as the defaults may."""
    kinds = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    hard = {name: resource.getrlimit(kind)[1] for name, kind in kinds.items()}
    return [f"{name}={limit}:{limit}" for name, limit in hard.items()]
