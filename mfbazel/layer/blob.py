"""From the entries of a layer to its blob, descriptor and file list, in one pass."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mfbazel.layer.compression import compressor
from mfbazel.layer.descriptor import MEDIA_TYPES, Descriptor
from mfbazel.layer.filelist import ListedFile, to_tsv
from mfbazel.layer.output import OutputFile, write_together
from mfbazel.layer.tar import FILE, HARDLINK, SYMLINK, Entry, Piece, pieces, plain

PIECE_SIZE = 256 << 10
"""Bytes handed to the compressor at once, about: few enough to stay in the processor's cache between uses."""

_QUEUE = 16
"""Pieces between the thread that reads and the one that writes; with PIECE_SIZE a bound of the memory used."""


@dataclass(frozen=True)
class Outputs:
    """Where the files of a layer go.

    Attributes:
        blob: the layer.
        descriptor: JSON, see :class:`mfbazel.layer.descriptor.Descriptor`.
        files: the file list, or ``None`` if it is not wanted.
    """

    blob: Path
    descriptor: Path
    files: Path | None


def write_layer(
    entries: Iterable[Entry],
    outputs: Outputs,
    *,
    compression: str = "zstd",
    level: int | None = None,
    extra: Callable[[], dict[Path, bytes]] | None = None,
) -> Descriptor:
    """Write a layer: blob, descriptor, file list, and whatever belongs to it.

    One thread reads the entries' content, inflating and verifying it; this one hashes, compresses and writes. The files
    get their names together at the end; when anything fails, none is there.

    Args:
        entries: in the archive's order; may be lazy, and may raise.
        outputs: where to write.
        compression: ``zstd``, ``gzip`` or ``none``.
        level: of the compression; when absent its default, and gzip copies deflate streams instead of compressing.
        extra: asked, when the entries are at their end, for further files that appear together with the layer.

    Raises:
        LayerError: an entry could not be read, or an output not be written.
    """
    packer = compressor(compression, level)
    tar_digest, blob_digest = hashlib.sha256(), hashlib.sha256()
    listed: list[ListedFile] = []
    with OutputFile(outputs.blob) as blob:

        def put(data: bytes) -> None:
            blob_digest.update(data)
            blob.write(data)

        archive = pieces(_listing(entries, listed), PIECE_SIZE, copy=packer.copies)
        with closing(_ahead(archive)) as ready:
            for piece in ready:
                tar_digest.update(plain(piece))
                for data in packer.take(piece):
                    put(data)
        put(packer.flush())
        descriptor = Descriptor(
            MEDIA_TYPES[compression],
            f"sha256:{blob_digest.hexdigest()}",
            blob.written,
            f"sha256:{tar_digest.hexdigest()}",
        )
        contents = {outputs.descriptor: descriptor.to_json(), **(extra() if extra else {})}
        if outputs.files:
            contents[outputs.files] = to_tsv(listed)
        write_together(contents, first=blob)
    return descriptor


def _listing(entries: Iterable[Entry], listed: list[ListedFile]) -> Iterator[Entry]:
    """Pass ``entries`` on, adding each one's line of the file list once its content has been read."""
    hashes: dict[str, str] = {}
    for entry in entries:
        yield entry
        if entry.kind == FILE:
            content = entry.source.sha256
            hashes[entry.path] = content
        elif entry.kind == HARDLINK:
            content = hashes[entry.link]
        elif entry.kind == SYMLINK:
            content = f"-> {entry.link}"
        else:
            continue
        listed.append(ListedFile(entry.path, content, entry.owner))


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def _ahead(archive: Iterator[Piece]) -> Generator[Piece, None, None]:
    """Yield the pieces of ``archive``, made on a thread of their own, a bounded number of them ahead.

    An error on that thread is raised here; when the consumer stops early, the thread ends before this generator does.
    """
    ready: queue.Queue[Piece | _Failure | None] = queue.Queue(_QUEUE)
    stop = threading.Event()

    def produce() -> None:
        try:
            for piece in archive:
                ready.put(piece)
                if stop.is_set():
                    return
            ready.put(None)
        except BaseException as error:
            ready.put(_Failure(error))

    thread = threading.Thread(target=produce, name="layer-reader", daemon=True)
    thread.start()
    try:
        while (piece := ready.get()) is not None:
            if isinstance(piece, _Failure):
                raise piece.error
            yield piece
    finally:
        stop.set()
        while thread.is_alive():
            _drain(ready)
            thread.join(0.01)


def _drain(items: queue.Queue[Piece | _Failure | None]) -> None:
    try:
        while True:
            items.get_nowait()
    except queue.Empty:
        return
