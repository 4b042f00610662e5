"""Layers as directories, and root directories made of them, for an engine that has no storage of its own.

Each layer is unpacked once, into a directory named after its diff ID. The root directory of an image has hard links to
the layers' files, so that images share what they have in common; ``layer.md`` of the image-spec 1.1 says what its
whiteouts mean. Owners and devices are left out: everything belongs to the user, who could not make it otherwise.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, cast

from mfbazel.container.errors import ContainerError
from mfbazel.container.layout import Layer, LayoutImage

Say = Callable[[str], None]

MOUNT_DIRECTORIES = ("dev", "proc", "run", "sys", "tmp", "var/tmp")
MOUNT_FILES = ("etc/hosts", "etc/resolv.conf")
"""What every root directory has, so that the machine's can be mounted there."""

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_IMPLICIT = "implicit.json"
_TREE = "tree"
_READ = 1 << 20  # bytes read at once
_SILENT_SECONDS = 1.0
_AGAIN_SECONDS = 5.0
# What tarfile and gzip raise; ValueError and those after it for extended headers that nobody would write.
_DAMAGED = (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, ValueError, LookupError, ArithmeticError)
_NOT_LINKABLE = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP)


def unpack_image(image: LayoutImage, cache: Path, say: Say) -> Path:
    """Return the root directory of ``image`` below ``cache``, making what is missing; it must not be written to.

    ``say`` gets a line now and then once it has taken a second.

    Raises:
        ContainerError: a layer is damaged, of an unknown type, or leaves its directory.
        OSError: ``cache`` cannot be written.
    """
    root = cache / "roots" / _chain_id(image.layers)
    if root.is_dir():
        return root
    progress = _Progress(image, say)
    with _alone(cache):
        trees = []
        for layer in image.layers:
            trees.append(_unpack_layer(layer, cache))
            progress.unpacked(layer)
        _make(root, lambda beside: _merge(trees, beside, progress))
    return root


class _Progress:
    """Says how far it is, after a second and then every few."""

    def __init__(self, image: LayoutImage, say: Say) -> None:
        self._image = image
        self._say = say
        self._next = time.monotonic() + _SILENT_SECONDS
        self._layers = 0
        self._bytes = 0

    def unpacked(self, layer: Layer) -> None:
        """Count ``layer``."""
        self._layers += 1
        self._bytes += layer.size
        self.tick()

    def tick(self) -> None:
        """Say how far it is, where that is due."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _AGAIN_SECONDS
            self._say(
                f"unpacking the image {self._image.manifest_digest[:19]}…: {self._layers} of "
                f"{len(self._image.layers)} layers, {self._bytes / 1e6:.0f} MB"
            )


@contextlib.contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Wait for others who unpack into ``cache``; then remove what an interrupted one left."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in ("layers", "roots"):
            for left in cache.joinpath(name).glob(".*"):
                shutil.rmtree(left, ignore_errors=True)
        yield


def _make(out: Path, write: Callable[[Path], None]) -> None:
    """Make the directory ``out`` by ``write``, whole or not at all."""
    if out.is_dir():
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(f".{out.name}")
    beside.mkdir()
    try:
        write(beside)
        beside.rename(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _chain_id(layers: Sequence[Layer]) -> str:
    """Return the hex digits of the ChainID (``config.md`` of the image-spec) of all layers."""
    chain = ""
    for layer in layers:
        chain = f"sha256:{hashlib.sha256(f'{chain} {layer.diff_id}'.encode()).hexdigest()}" if chain else layer.diff_id
    return chain.removeprefix("sha256:")


def _unpack_layer(layer: Layer, cache: Path) -> Path:
    """Return the directory with the files of ``layer``, whiteouts among them as files of their names."""
    out = cache / "layers" / layer.diff_id.removeprefix("sha256:")
    _make(out, lambda beside: _write_layer(layer, beside))
    return out


def _write_layer(layer: Layer, out: Path) -> None:
    tree = out / _TREE
    tree.mkdir()
    with _uncompressed(layer) as raw:
        stream = _Hashing(raw)
        try:
            with tarfile.open(fileobj=stream, mode="r|", bufsize=_READ) as archive:
                implicit = _Extraction(tree, layer).extract(archive)
            while stream.read(_READ):  # what follows the archive's end is hashed as well
                pass
        except _DAMAGED as error:
            raise _damaged(layer.blob, error) from error
    if (found := f"sha256:{stream.digest.hexdigest()}") != layer.diff_id:
        raise ContainerError(
            f"the layer {layer.blob} is damaged: its diff ID is {found}, and the image says {layer.diff_id}. Build the "
            "image again."
        )
    out.joinpath(_IMPLICIT).write_text(json.dumps(sorted(implicit)), encoding="utf-8")


def _damaged(blob: Path, error: Exception) -> ContainerError:
    return ContainerError(f"the layer {blob} is damaged ({error}); build the image again.")


class _Hashing(io.RawIOBase):
    """A stream that hashes what is read from it."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self._stream = stream
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.digest.update(data)
        return data


@contextlib.contextmanager
def _uncompressed(layer: Layer) -> Iterator[IO[bytes]]:
    """Open the tar of ``layer``."""
    kind = layer.media_type
    if kind.endswith(("+zstd", ".zstd")):
        with _open_zstd(layer.blob) as stream:
            yield stream
    elif kind.endswith(("+gzip", ".gzip")):
        with gzip.open(layer.blob) as unzipped:
            yield cast(IO[bytes], unzipped)
    elif kind.endswith(".tar"):
        with layer.blob.open("rb") as stream:
            yield stream
    else:
        raise ContainerError(f"the layer {layer.blob} has the media type {kind}, which is none of tar, gzip and zstd.")


@contextlib.contextmanager
def _open_zstd(blob: Path) -> Iterator[IO[bytes]]:
    """Decompress with Python's own module (3.14 and later), else with the program ``zstd``."""
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        program = shutil.which("zstd")
        if program is None:
            raise ContainerError(
                f"{blob} is compressed with zstd: that needs Python 3.14 or the program zstd, and there is neither."
            ) from None
        with subprocess.Popen([program, "-dc", blob], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            yield process.stdout
        return
    with zstd.open(blob) as stream:
        try:
            yield stream
        except zstd.ZstdError as error:
            raise _damaged(blob, error) from error


class _Extraction:
    """Writes the members of a layer into a directory, and nowhere else."""

    def __init__(self, tree: Path, layer: Layer) -> None:
        self._tree = tree
        self._layer = layer
        self._explicit: set[str] = set()
        self._implicit: set[str] = set()
        self._times: list[tuple[Path, float]] = []

    def extract(self, archive: tarfile.TarFile) -> set[str]:
        """Write all members; return the directories that no member names."""
        for member in archive:
            name = self._name(member.name)
            if name:
                self._write(archive, member, name)
        for path, mtime in reversed(self._times):
            os.utime(path, (mtime, mtime))
        return self._implicit - self._explicit

    def _write(self, archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> None:
        path = self._place(name)
        if member.isdir():
            if path.is_symlink() or not path.is_dir():
                _remove(path)
                path.mkdir()
            path.chmod(member.mode & 0o777 | 0o700)
            self._explicit.add(os.path.relpath(path, self._tree))
            self._times.append((path, member.mtime))
        elif member.issym():
            _remove(path)
            path.symlink_to(member.linkname)
        elif member.islnk():
            source = self._place(self._name(member.linkname))
            if source.is_symlink() or not source.exists():
                raise ContainerError(f"{self._layer.blob}: {name} is a link to {member.linkname}, which is not there.")
            _remove(path)
            path.hardlink_to(source)
        elif member.isreg():
            _remove(path)
            content = archive.extractfile(member)
            assert content is not None
            with path.open("wb") as stream:
                shutil.copyfileobj(content, stream, _READ)
            path.chmod(member.mode & 0o777 | 0o600)
            os.utime(path, (member.mtime, member.mtime))

    def _name(self, name: str) -> str:
        """Return the path of a member, without leading ``./`` and ``/``."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise ContainerError(f"the layer {self._layer.blob} has a path that leaves it: {name}")
        return "/".join(parts)

    def _place(self, name: str) -> Path:
        """Return where ``name`` lies: symlinks on the way stay within the layer; directories are made."""
        *parents, last = name.split("/")
        return _inside(self._tree, parents, self._add_directory) / last

    def _add_directory(self, path: Path) -> None:
        path.mkdir()
        self._implicit.add(os.path.relpath(path, self._tree))


def _inside(root: Path, parts: Sequence[str], make: Callable[[Path], None]) -> Path:
    """Return the directory ``parts`` of ``root`` as a process sees it whose root directory that is.

    ``make`` makes one that is missing; a file in its place is removed.
    """
    here, waiting, hops = root, list(reversed(parts)), 0
    while waiting:
        part = waiting.pop()
        if part in ("", "."):
            continue
        if part == "..":
            here = root if here == root else here.parent
            continue
        path = here / part
        if path.is_symlink():
            hops += 1
            if hops > 40:  # as the kernel's
                raise ContainerError(f"too many levels of symbolic links: {path}")
            target = str(path.readlink())
            here = root if target.startswith("/") else here
            waiting += reversed(target.split("/"))
            continue
        if not path.is_dir():
            _remove(path)
            make(path)
        here = path
    return here


def _merge(layers: Sequence[Path], root: Path, progress: _Progress) -> None:
    """Make ``root`` of unpacked layers, from the bottom to the top."""
    for layer in layers:
        implicit = set(json.loads(layer.joinpath(_IMPLICIT).read_text(encoding="utf-8")))
        _apply(layer / _TREE, root, implicit, progress)
    for name in MOUNT_DIRECTORIES:
        _inside(root, name.split("/"), Path.mkdir)
    for name in MOUNT_FILES:
        parent = _inside(root, name.split("/")[:-1], Path.mkdir)
        place = parent / name.rpartition("/")[2]
        if place.is_symlink() or not place.is_file():
            _remove(place)
            place.touch()


def _apply(tree: Path, root: Path, implicit: set[str], progress: _Progress) -> None:
    """Lay one layer over ``root``."""
    for directory, _, files in os.walk(tree):
        progress.tick()
        relative = os.path.relpath(directory, tree)
        parts = [] if relative == "." else relative.split("/")
        into = _lay_directory(root, parts, relative in implicit)
        if _OPAQUE in files:
            for left in into.iterdir():
                _remove(left)
        for name in files:  # whiteouts concern layers below only: before the layer's own files
            if name.startswith(_WHITEOUT) and name != _OPAQUE:
                _remove(into / name.removeprefix(_WHITEOUT))
        if relative != ".":
            shutil.copystat(directory, into)
        with os.scandir(directory) as entries:
            for entry in entries:
                if not entry.name.startswith(_WHITEOUT) and not entry.is_dir(follow_symlinks=False):
                    _remove(into / entry.name)
                    _link(entry.path, into / entry.name)


def _lay_directory(root: Path, parts: Sequence[str], implicit: bool) -> Path:
    """Return the directory of ``root`` for one of a layer.

    One that the layer names takes the place of a symlink; one that is only on the way to something follows it.
    """
    if implicit:
        return _inside(root, parts, Path.mkdir)
    parent = _inside(root, parts[:-1], Path.mkdir)
    path = parent / parts[-1] if parts else parent
    if path.is_symlink() or not path.is_dir():
        _remove(path)
        path.mkdir()
    return path


def _link(source: str, target: Path) -> None:
    """Make ``target`` the same file as ``source``, or a copy where the file system cannot."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NOT_LINKABLE:
            raise
        shutil.copy2(source, target, follow_symlinks=False)


def _remove(path: Path) -> None:
    """Remove whatever is there."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if stat.S_ISDIR(mode):
        shutil.rmtree(path)
    else:
        path.unlink()
