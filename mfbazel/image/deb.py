"""Reading one ``.deb`` file (deb(5)): an ar archive with a control and a data tar."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path
from typing import IO, cast

import zstandard

from mfbazel.image.errors import ImageError

_MAGIC = b"!<arch>\n"
_HEADER = 60
_DAMAGED = (tarfile.TarError, lzma.LZMAError, zlib.error, zstandard.ZstdError, EOFError, OSError)


@dataclass(frozen=True)
class Deb:
    """A Debian package.

    Attributes:
        path: of the file.
        sha256: of the file, in hex.
        stanza: its control paragraph, without a newline at the end.
        conffiles: absolute paths of its configuration files.
        md5sums: the control file of that name, empty where there is none.
        name, version, architecture, multi_arch: from the control paragraph; ``multi_arch`` may be empty.
    """

    path: Path
    sha256: str
    stanza: str
    conffiles: tuple[str, ...]
    md5sums: str
    name: str
    version: str
    architecture: str
    multi_arch: str

    @property
    def label(self) -> str:
        """``name=version``, as apt writes it."""
        return f"{self.name}={self.version}"

    @property
    def info_name(self) -> str:
        """How dpkg names the package's files in ``/var/lib/dpkg/info``."""
        return f"{self.name}:{self.architecture}" if self.multi_arch == "same" else self.name

    @contextlib.contextmanager
    def data(self) -> Iterator[tarfile.TarFile]:
        """Open the data tar as a stream: members come in the archive's order and are read once.

        Raises:
            ImageError: the package is damaged; also while the stream is read.
        """
        with _tar(self.path, "data.tar") as archive:
            yield archive


def read_deb(path: Path) -> Deb:
    """Read the control data of a package.

    Raises:
        ImageError: the file is not a Debian package, or is damaged.
    """
    controls: dict[str, str] = {}
    with _tar(path, "control.tar") as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None and name in ("control", "conffiles", "md5sums"):
                controls[name] = file.read().decode("utf-8", "surrogateescape")
    stanza = controls.get("control", "").strip("\n")
    fields = HeaderParser().parsestr(stanza)
    values = [fields[key] for key in ("Package", "Version", "Architecture")]
    if not all(values):
        raise ImageError(
            f"{path}: its control file lacks Package, Version or Architecture. Download the package again."
        )
    with path.open("rb") as file_:
        digest = hashlib.file_digest(file_, "sha256").hexdigest()
    lines = controls.get("conffiles", "").splitlines()
    # A line may begin with a flag, such as remove-on-upgrade; those files are not there.
    conffiles = tuple(line.strip() for line in lines if line.startswith("/"))
    name, version, architecture = map(str, values)
    md5sums = controls.get("md5sums", "")
    return Deb(path, digest, stanza, conffiles, md5sums, name, version, architecture, fields["Multi-Arch"] or "")


class _Section(io.RawIOBase):
    """A part of a file, as a stream."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._file.read(min(len(buffer), self._left))
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)


@contextlib.contextmanager
def _tar(path: Path, name: str) -> Iterator[tarfile.TarFile]:
    """Open the member of the ar archive that is called ``name`` with any compression, as a stream."""
    try:
        with path.open("rb") as file:
            suffix, size = _seek(path, file, name)
            section = cast(IO[bytes], io.BufferedReader(_Section(file, size), 1 << 20))
            with (
                _decompressed(path, section, suffix) as stream,
                tarfile.open(fileobj=stream, mode="r|", errors="strict") as archive,
            ):
                yield archive
    except (UnicodeDecodeError, *_DAMAGED) as error:
        raise ImageError(
            f"{path} is not a Debian package, or is damaged: {name}: {error}. Download it again."
        ) from error


def _seek(path: Path, file: IO[bytes], wanted: str) -> tuple[str, int]:
    """Move ``file`` to the content of the wanted member; return the rest of its name and its size in bytes."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise ImageError(f"{path} is not a Debian package: it is no ar archive. Download it again.")
    while len(header := file.read(_HEADER)) == _HEADER:
        name = header[:16].decode("ascii", "replace").rstrip(" ").removesuffix("/")
        try:
            size = int(header[48:58])
        except ValueError:
            break
        if name.startswith(wanted) and header[58:] == b"`\n":
            return name.removeprefix(wanted), size
        file.seek(size + size % 2, io.SEEK_CUR)
    raise ImageError(f"{path} is not a Debian package, or is damaged: it has no {wanted}. Download it again.")


def _decompressed(path: Path, section: IO[bytes], suffix: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    if suffix == ".xz":
        return lzma.open(section)
    if suffix == ".gz":
        return cast(IO[bytes], gzip.open(section))
    if suffix == ".zst":
        return zstandard.ZstdDecompressor().stream_reader(section, read_across_frames=True)
    if suffix == "":
        return section
    raise ImageError(f"{path}: its data is compressed as {suffix!r}; known are .xz, .gz, .zst and none")
