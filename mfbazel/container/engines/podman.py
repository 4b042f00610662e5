"""podman: reads layouts as they are, and needs no daemon."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from mfbazel.container.engines.base import Process, Say, Start, answers, ask
from mfbazel.container.engines.commands import bind, command_options, run_options, trial
from mfbazel.container.errors import ContainerError
from mfbazel.container.gpu import LIBRARIES, Gpu
from mfbazel.container.layout import LayoutImage
from mfbazel.container.model import Image


class Podman:
    """Containers of podman. Those of an ordinary user run as root in a user namespace, where root is that user."""

    name = "podman"

    def __init__(self, program: str) -> None:
        self.program = program

    def why_not(self) -> str:
        """Return why podman does not work here; empty where it does."""
        return answers([self.program, "info", "--format", "{{.Host.OS}}"])

    def why_not_start(self, image: Image) -> str:
        """Return why no container of ``image`` starts; empty where one did."""
        return answers([self.program, *trial(image)])

    def take_layout(self, image: LayoutImage, cache: Path, say: Say) -> Image:
        """Return ``image``, read from its layout where podman lacks it; layers that it has are not read."""
        del cache
        handle = image.config_digest.removeprefix("sha256:")
        if answers([self.program, "image", "exists", handle]):
            say(f"podman takes the image {image.manifest_digest[:19]}…")
            with tempfile.TemporaryDirectory() as scratch:
                # The transport takes ':' for the end of the path, and a path of Bazel's may hold one.
                link = Path(scratch) / "image"
                link.symlink_to(image.layout.absolute(), target_is_directory=True)
                handle = ask([self.program, "pull", "--quiet", f"oci:{link}"], "giving podman the image").split()[-1]
        return Image(self.name, handle, image.manifest_digest, user="0:0")

    def take_reference(self, reference: str, say: Say) -> Image:
        """Return the image that ``reference`` names."""
        inspect = [self.program, "image", "inspect", "--format", "{{.Id}}", reference]
        try:
            handle = ask(inspect, "looking for the image")
        except ContainerError:
            say(f"podman pulls {reference}")
            ask([self.program, "pull", "--quiet", reference], f"pulling {reference}")
            handle = ask(inspect, "looking for the image")
        return Image(self.name, handle.strip(), reference, user="0:0")

    def process(self, start: Start) -> Process:
        """Return ``podman run``."""
        command = [self.program, "run", *run_options(start), *_gpu_options(start.gpu), *command_options(start)]
        environ = {**os.environ, **start.environ}
        remove = (self.program, "rm", "--force", "--time=0", "--ignore", start.name)
        return Process(command, environ, remove, start.reads_input)


def _gpu_options(gpu: Gpu | None) -> list[str]:
    """Let the Container Device Interface add the GPUs where it knows them; else add their files one by one."""
    if gpu is None:
        return []
    if gpu.cdi:
        return ["--device", "nvidia.com/gpu=all"]
    options = []
    for device in gpu.devices:
        options += ["--device", str(device)]
    for mount in gpu.library_mounts():
        options += ["--mount", bind(mount)]
    return [*options, "--env", f"LD_LIBRARY_PATH={LIBRARIES}"]
