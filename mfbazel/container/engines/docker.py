"""docker: takes layouts as tars, through its daemon."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from mfbazel.container.engines.base import Process, Say, Start, answers, ask
from mfbazel.container.engines.commands import command_options, run_options, trial
from mfbazel.container.errors import ContainerError
from mfbazel.container.layout import LayoutImage
from mfbazel.container.model import Image

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
        with tempfile.TemporaryFile() as said:
            try:
                process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=said)
            except OSError as error:
                raise ContainerError(f"{self.program} cannot be started: {error.strerror}.") from error
            with process:
                assert process.stdin is not None
                broken = False
                try:
                    write_archive(image, reference, process.stdin)
                    process.stdin.close()
                except BrokenPipeError:
                    broken = True
            said.seek(0)
            if process.returncode or broken:
                raise ContainerError(
                    f"giving docker the image {image.layout} failed: `{' '.join(command)}`: "
                    f"{said.read().decode(errors='replace').strip()}"
                )


def write_archive(image: LayoutImage, reference: str, stream: IO[bytes]) -> None:
    """Write ``image``, and nothing else of its layout, as the tar that ``docker load`` reads as ``reference``.

    It is an OCI layout (image-spec 1.1) with the ``manifest.json`` that engines before Docker 25 read beside it.
    """
    manifest = image.layout / "blobs" / image.manifest_digest.replace(":", "/")
    config = image.layout / "blobs" / image.config_digest.replace(":", "/")
    content = json.loads(manifest.read_bytes())
    annotations = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference}
    descriptor = {
        "mediaType": content.get("mediaType", "application/vnd.oci.image.manifest.v1+json"),
        "digest": image.manifest_digest,
        "size": manifest.stat().st_size,
        "annotations": annotations,
    }
    blobs = {file.name: file for file in (manifest, config, *(layer.blob for layer in image.layers))}
    layers = [f"blobs/sha256/{layer.blob.name}" for layer in image.layers]
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for name, file in blobs.items():
            member = tarfile.TarInfo(f"blobs/sha256/{name}")
            member.size = file.stat().st_size
            with file.open("rb") as blob:
                archive.addfile(member, blob)
        _add(archive, "oci-layout", {"imageLayoutVersion": "1.0.0"})
        _add(archive, "index.json", {"schemaVersion": 2, "manifests": [descriptor]})
        entry = {"Config": f"blobs/sha256/{config.name}", "RepoTags": [reference], "Layers": layers}
        _add(archive, "manifest.json", [entry])


def _add(archive: tarfile.TarFile, name: str, content: Any) -> None:
    """Add a JSON file to the archive."""
    data = json.dumps(content).encode()
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, BytesIO(data))
