"""docker: takes layouts as tars, through its daemon."""

from __future__ import annotations

import os
from pathlib import Path

from mfbazel.container.engines.base import Process, Say, Start, answers, ask
from mfbazel.container.engines.commands import command_options, run_options, trial
from mfbazel.container.errors import ContainerError
from mfbazel.container.layout import LayoutImage
from mfbazel.container.model import Image
from mfbazel.docker_load import Blob, load, write_archive

_REPOSITORY = "mfbazel/local"


class Docker:
    """Containers of docker's daemon; they run as the user, whose the files are."""

    name = "docker"

    def __init__(self, program: str) -> None:
        self.program = program

    def why_not(self) -> str:
        """Return why docker does not work here; empty where it does. The program without a daemon does not."""
        return answers([self.program, "version", "--format", "{{.Server.Version}}"])

    def why_not_start(self, image: Image) -> str:
        """Return why no container of ``image`` starts; empty where one did."""
        return answers([self.program, *trial(image)])

    def take_layout(self, image: LayoutImage, cache: Path, say: Say) -> Image:
        """Return ``image``, loaded where the daemon lacks it, under a name that is its digest."""
        del cache
        reference = f"{_REPOSITORY}:{image.manifest_digest.removeprefix('sha256:')}"
        if answers([self.program, "image", "inspect", reference]):
            say(f"docker loads the image {image.manifest_digest[:19]}…")
            self._load(image, reference)
        return Image(self.name, reference, image.manifest_digest, user=self._user())

    def take_reference(self, reference: str, say: Say) -> Image:
        """Return the image that ``reference`` names."""
        inspect = [self.program, "image", "inspect", "--format", "{{.Id}}", reference]
        try:
            handle = ask(inspect, "looking for the image")
        except ContainerError:
            say(f"docker pulls {reference}")
            ask([self.program, "pull", "--quiet", reference], f"pulling {reference}")
            handle = ask(inspect, "looking for the image")
        return Image(self.name, handle.strip(), reference, user=self._user())

    def process(self, start: Start) -> Process:
        """Return ``docker run``."""
        gpus = ["--gpus", "all"] if start.gpu and start.gpu.toolkit else []
        command = [self.program, "run", *run_options(start), *gpus, *command_options(start)]
        remove = (self.program, "rm", "--force", start.name)
        return Process(command, {**os.environ, **start.environ}, remove, start.reads_input)

    def _user(self) -> str:
        """Return the user of the container that is this user: root, where the daemon itself runs as this user."""
        options = ask([self.program, "info", "--format", "{{json .SecurityOptions}}"], "asking docker's daemon")
        return "0:0" if "name=rootless" in options else f"{os.getuid()}:{os.getgid()}"

    def _load(self, image: LayoutImage, reference: str) -> None:
        command = [self.program, "load", "--quiet"]
        manifest, blobs = _blobs(image)
        try:
            refusal = load(command, lambda stream: write_archive([manifest], blobs, reference, stream))
        except OSError as error:
            raise ContainerError(f"{self.program} cannot be started: {error.strerror}.") from error
        if refusal is not None:
            raise ContainerError(
                f"giving docker the image {image.layout} failed: `{' '.join(command)}`: {refusal.said}"
            )


def _blobs(image: LayoutImage) -> tuple[Blob, list[Blob]]:
    """Return the manifest, and the configuration and layers, of the image for this machine's platform."""
    directory = image.layout / "blobs" / "sha256"
    files = [*(directory / digest.removeprefix("sha256:") for digest in (image.manifest_digest, image.config_digest))]
    files += [layer.blob for layer in image.layers]
    manifest, *blobs = (Blob(f"sha256:{file.name}", file.stat().st_size, file) for file in files)
    return manifest, blobs
