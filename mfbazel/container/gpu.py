"""NVIDIA's GPUs of this machine, and what a container needs to use them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mfbazel.container.model import Mount

LIBRARIES = Path("/usr/local/nvidia/lib64")
"""Where a container without NVIDIA's toolkit has the driver's libraries; it is on ``LD_LIBRARY_PATH``."""

_LIBRARY_DIRECTORIES = ("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib64", "usr/lib/wsl/lib")
_LIBRARY_NAMES = ("libcuda.so*", "libcudadebugger.so*", "libnvcuvid.so*", "libnvidia-*.so*")
_CDI_DIRECTORIES = ("etc/cdi", "run/cdi", "var/run/cdi")
_TOOLKIT = ("nvidia-container-runtime", "nvidia-container-cli", "nvidia-ctk")


@dataclass(frozen=True)
class Gpu:
    """The GPUs of a machine."""

    devices: Sequence[Path]
    """Device files: one per GPU, and those that control them."""
    libraries: Mapping[str, Path] = field(default_factory=dict)
    """The driver's libraries, which images do not hold: the file by the name that programs look for."""
    cdi: bool = False
    """Whether the Container Device Interface describes them, as podman needs it."""
    toolkit: bool = False
    """Whether NVIDIA's container toolkit is installed, as docker needs it."""

    def library_mounts(self) -> list[Mount]:
        """Return the driver's libraries as mounts in :data:`LIBRARIES`."""
        return [Mount(library, target=LIBRARIES / name) for name, library in sorted(self.libraries.items())]


def find(root: Path = Path("/"), path: str | None = None) -> Gpu | None:
    """Return the GPUs of the machine whose files lie below ``root``; None where there is none."""
    devices = sorted(root.glob("dev/nvidia*"))
    if not any(device.name.removeprefix("nvidia").isdigit() for device in devices):
        return None
    libraries: dict[str, Path] = {}
    for directory in _LIBRARY_DIRECTORIES:
        for name in _LIBRARY_NAMES:
            for library in sorted(root.joinpath(directory).glob(name)):
                libraries.setdefault(library.name, library.resolve())
    return Gpu(
        devices=devices,
        libraries=libraries,
        cdi=any(True for directory in _CDI_DIRECTORIES for _ in root.joinpath(directory).glob("nvidia*")),
        toolkit=any(shutil.which(name, path=path) for name in _TOOLKIT),
    )
