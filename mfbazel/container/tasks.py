"""What a container has of this machine, so that a command in it behaves as it would outside.

The working directory, the directory of temporary files and what the caller names can be written to. Code is read-only,
at its own paths: links, error messages and configured paths stay right. The home directory is a new one, but for the
settings of Metaflow and its datastores.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from mfbazel.container.errors import ContainerError
from mfbazel.container.images import cache
from mfbazel.container.model import Image, Mount, Plan, tidy
from mfbazel.container.sources import readable
from mfbazel.container.variables import configuration

IMAGE_VARIABLE = "MFBAZEL_CONTAINER_IMAGE"
"""Environment variable of a task: what people call the image that it runs in."""
ENGINE_VARIABLE = "MFBAZEL_CONTAINER_ENGINE"
"""Environment variable of a task: name of the engine that started its container."""

_OF_THE_IMAGE = frozenset(
    Path("/", name)
    for name in (
        *("", "bin", "boot", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "sys", "usr", "usr/local", "var"),
        *("opt", "opt/venv"),
    )
)


def plan(
    image: Image,
    *,
    workdir: Path,
    code: Sequence[Path],
    import_roots: Sequence[Path],
    writable: Sequence[Path] = (),
    volumes: Sequence[str] = (),
    environ: Mapping[str, str],
) -> Plan:
    """Return the container of commands in ``image``.

    Args:
        image: the image.
        workdir: the working directory.
        code: files and directories of code.
        import_roots: directories for PYTHONPATH.
        writable: further directories that the command writes to; those that do not exist are left out.
        volumes: what the user asked for besides: directories and files, writable.
        environ: the environment variables of this process.

    Raises:
        ContainerError: a directory would hide the image's own, or a volume does not exist.
        OSError: the cache cannot be written.
    """
    byte_code = cache(environ) / "pycache" / hashlib.sha256(image.handle.encode()).hexdigest()[:16]
    byte_code.mkdir(parents=True, exist_ok=True)
    written = [workdir, Path(tempfile.gettempdir()), byte_code, *(path for path in writable if path.is_dir())]
    mounts = [Mount(path, writable=True) for path in (*written, *map(_volume, volumes))]
    for mount in mounts:
        if mount.place in _OF_THE_IMAGE:
            raise ContainerError(
                f"{mount.place} would hide what the image has there. Start the command in a directory of your own."
            )
    workspace = environ.get("BUILD_WORKSPACE_DIRECTORY")
    mounts += readable([*code, *configuration(environ)], [Path(workspace)] if workspace else [])
    return Plan(
        image=image,
        workdir=workdir,
        mounts=tidy(mounts),
        variables={
            "PYTHONPATH": os.pathsep.join(dict.fromkeys(map(str, import_roots))),
            "PYTHONPYCACHEPREFIX": str(byte_code),
            IMAGE_VARIABLE: image.name,
            ENGINE_VARIABLE: image.engine,
        },
    )


def _volume(text: str) -> Path:
    """Return the directory or file that the user named."""
    path = Path(text).expanduser().absolute()
    if not path.exists():
        raise ContainerError(f"host_volumes: there is no {path} on this machine.")
    return path
