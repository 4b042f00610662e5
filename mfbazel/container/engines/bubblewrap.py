"""bubblewrap: namespaces only, no storage, no daemon and no root; images are unpacked into the user's cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from mfbazel.container.engines.base import Process, Say, Start, answers
from mfbazel.container.errors import ContainerError
from mfbazel.container.gpu import LIBRARIES
from mfbazel.container.layout import LayoutImage
from mfbazel.container.model import Image, Mount
from mfbazel.container.unpack import MOUNT_FILES, unpack_image

_SHARED_MEMORY = Path("/dev/shm")
_SYSTEM = Path("/sys")


class Bubblewrap:
    """Containers that are a process of this user with other namespaces."""

    name = "bubblewrap"

    def __init__(self, program: str) -> None:
        self.program = program

    def why_not(self) -> str:
        """Return why bubblewrap does not work here; empty where it does."""
        return answers([self.program, "--ro-bind", "/", "/", "--unshare-pid", "true"])

    def why_not_start(self, image: Image) -> str:
        """Return nothing: what starts on the machine's own root starts on another."""
        del image
        return ""

    def take_layout(self, image: LayoutImage, cache: Path, say: Say) -> Image:
        """Return ``image``, unpacked."""
        root = unpack_image(image, cache, say)
        return Image(
            self.name, str(root), image.manifest_digest, variables=dict(image.variables), overlay=self._overlays(root)
        )

    def take_reference(self, reference: str, say: Say) -> Image:
        """Refuse: bubblewrap asks no registry."""
        del say
        raise ContainerError(
            f"the image {reference} is in a registry, and bubblewrap starts only images that are on this machine. "
            "Install podman or docker, or name the directory of an OCI layout."
        )

    def process(self, start: Start) -> Process:
        """Return ``bwrap``, which ends with its parent, and all in the container with it."""
        environ = {**start.plan.image.variables, **start.environ}
        if start.gpu and start.gpu.libraries:
            environ["LD_LIBRARY_PATH"] = os.pathsep.join(
                filter(None, [str(LIBRARIES), environ.get("LD_LIBRARY_PATH", "")])
            )
        return Process([self.program, *_options(start), "--", *start.command], environ, reads_input=start.reads_input)

    def _overlays(self, root: Path) -> bool:
        """Say whether this bubblewrap (0.11 and later) and this kernel can lay a writable file system over ``root``."""
        overlay = ["--overlay-src", str(root), "--tmp-overlay", "/"]
        return not answers(
            [self.program, *overlay, "--dev", "/dev", "--proc", "/proc", "--chdir", "/", "/bin/sh", "-c", ":"]
        )


def _options(start: Start) -> Iterator[str]:
    image = start.plan.image
    yield from ("--die-with-parent", "--unshare-pid")
    if image.overlay:
        yield from ("--overlay-src", image.handle, "--tmp-overlay", "/")
    else:
        yield from ("--bind", image.handle, "/", "--tmpfs", "/run", "--tmpfs", "/var/tmp")
    yield from ("--proc", "/proc", "--dev", "/dev")
    if _SHARED_MEMORY.is_dir():
        yield from ("--bind", str(_SHARED_MEMORY), str(_SHARED_MEMORY))
    yield from ("--ro-bind", str(_SYSTEM), str(_SYSTEM))
    for name in MOUNT_FILES:
        file = Path("/", name)
        if file.exists():
            yield from ("--ro-bind", str(file.resolve()), str(file))
    if start.new_home:
        yield from ("--tmpfs", str(start.new_home))
    for mount in start.plan.mounts:
        yield from _bind(mount)
    if start.gpu:
        for device in start.gpu.devices:
            yield from ("--dev-bind", str(device), str(device))
        for mount in start.gpu.library_mounts():
            yield from _bind(mount)
    if not image.overlay:
        # The places of the mounts were made in the unpacked root; nothing else may be.
        yield from ("--remount-ro", "/")
    yield from ("--chdir", str(start.plan.workdir))


def _bind(mount: Mount) -> tuple[str, str, str]:
    return ("--bind" if mount.writable else "--ro-bind", str(mount.source), str(mount.place))
