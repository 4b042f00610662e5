"""Output files that are complete or absent: written beside their place, then renamed."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from mfbazel.layer.errors import LayerError, write_error


class OutputFile:
    """A binary file that appears under its name only when :meth:`commit` is called.

    ``path`` is the final name; the content goes to a hidden neighbour first. ``written`` counts bytes.
    """

    def __init__(self, path: Path) -> None:
        """Create the neighbour of ``path``.

        Raises:
            LayerError: the directory cannot be written to.
        """
        self.path = path
        self.written = 0
        self._beside = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            self._beside.parent.mkdir(parents=True, exist_ok=True)
            # Never into what is there: of an earlier process with this number, or a link that somebody planted.
            self._beside.unlink(missing_ok=True)
            self._file: BinaryIO = self._beside.open("xb", buffering=0)
        except OSError as error:
            raise write_error(path, 0, error) from error

    def write(self, data: bytes) -> None:
        """Append ``data``.

        Raises:
            LayerError: nothing more can be written, for example because the disk is full.
        """
        view = memoryview(data)
        try:
            while view:
                count = self._file.write(view)
                self.written += count
                view = view[count:]
        except OSError as error:
            raise write_error(self.path, self.written, error) from error

    def commit(self) -> None:
        """Close the file and give it its name.

        Raises:
            LayerError: the last bytes could not be written or the rename failed.
        """
        try:
            self._file.close()
            self._beside.replace(self.path)
        except OSError as error:
            raise write_error(self.path, self.written, error) from error

    def discard(self) -> None:
        """Close and remove the neighbour; harmless after :meth:`commit`."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._beside.unlink(missing_ok=True)

    def __enter__(self) -> OutputFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


def write_together(contents: dict[Path, bytes], first: OutputFile | None = None) -> None:
    """Write every file of ``contents``, then give all of them, and ``first`` before them, their names.

    Raises:
        LayerError: a file could not be written; none of them is left behind half-written.
    """
    with contextlib.ExitStack() as stack:
        files = [first] if first else []
        for path, content in contents.items():
            file = stack.enter_context(OutputFile(path))
            file.write(content)
            files.append(file)
        for file in files:
            file.commit()


@contextlib.contextmanager
def reading(path: Path) -> Iterator[io.BufferedReader]:
    """Open ``path`` for reading in binary mode.

    Raises:
        LayerError: the file is missing or unreadable.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise LayerError(f"cannot read {path}: {error.strerror or error}") from error
    with file:
        yield file
