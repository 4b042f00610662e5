"""Byte code of installed files: hash-based, unchecked ``.pyc`` files (PEP 552), the same in every build.

The image's own Python compiles, in a process per file (see :mod:`mfbazel.layer.zygote`). Results wait in a nameless
file, as RECORD, which lists them, comes before most of them in the layer.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from mfbazel.layer.errors import LayerError, write_error
from mfbazel.layer.tar import Source
from mfbazel.wheel.paths import unsafe

MAX_SOURCE = 1 << 20
"""Longest source, in bytes, that is compiled: the compiler takes about 200 times as much memory."""

_WORKERS = 2
_CHUNK = 256 << 10
_ENDING = ".py"

_FORMATS = {
    "3.7": 3394,
    "3.8": 3413,
    "3.9": 3425,
    "3.10": 3439,
    "3.11": 3495,
    "3.12": 3531,
    "3.13": 3571,
    "3.14": 3627,
}
"""Python → number of the byte code format of its releases (``importlib.util.MAGIC_NUMBER``)."""

_HOW = (
    "Give one with `--compiler PATH`; with Bazel, a py_runtime target with "
    "--@mfbazel//rules:bytecode_python=LABEL, or switch byte code off with --@mfbazel//rules:bytecode=False."
)


@dataclass(frozen=True)
class CompiledFile:
    """A ``.pyc`` in the file of results (see :class:`mfbazel.layer.tar.Source`)."""

    results: BinaryIO
    offset: int
    size: int
    sha256: str

    def chunks(self) -> Iterator[bytes]:
        """Yield the content in order."""
        for start in range(0, self.size, _CHUNK):
            yield os.pread(self.results.fileno(), min(_CHUNK, self.size - start), self.offset + start)


class Bytecode:
    """Compiles files for one Python ``X.Y``; a context manager that ends the processes and drops the results."""

    def __init__(self, python: str, compiler: Path | None, directory: Path) -> None:
        """Start the compilers.

        Args:
            python: version of the image's Python, ``X.Y``.
            compiler: an interpreter of that version; this process's own when absent.
            directory: on whose file system the results wait.

        Raises:
            LayerError: the interpreter has another version or byte code format, or does not run.
        """
        path = compiler or _own(python)
        with contextlib.ExitStack() as stack:
            try:
                directory.mkdir(parents=True, exist_ok=True)
                self._results = stack.enter_context(tempfile.TemporaryFile(dir=directory))
            except OSError as error:
                raise write_error(directory, 0, error) from error
            self._compilers = [stack.enter_context(_Compiler(path)) for _ in range(_WORKERS)]
            for one in self._compilers:
                self._tag = one.check(python)
            self._stack = stack.pop_all()

    def __enter__(self) -> Bytecode:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def compiled(self, files: Mapping[str, Source]) -> Iterator[tuple[str, CompiledFile]]:
        """Yield path and content of the byte code of every Python file among ``files``: path in the image → content.

        Files that do not compile are left out, as other installers do, and those beyond :data:`MAX_SOURCE`, or whose
        byte code would have a name that no file system takes.

        Raises:
            LayerError: a file cannot be read, a compiler died, or a result cannot be kept.
        """
        paths = [
            path
            for path in sorted(files)
            if path.endswith(_ENDING) and files[path].size <= MAX_SOURCE and unsafe(self._target(path)) is None
        ]
        sources = ((f"/{path}", b"".join(files[path].chunks())) for path in paths)
        for path, result in zip(paths, self._answers(sources), strict=True):
            if result:
                yield self._target(path), self._keep(result)

    def _answers(self, sources: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
        """Yield the results in order; the compilers take turns, so that each has one file while the next is read."""
        waiting: list[_Compiler] = []
        for number, (path, source) in enumerate(sources):
            one = self._compilers[number % len(self._compilers)]
            if len(waiting) == len(self._compilers):
                yield waiting.pop(0).answer()
            one.ask(path, source)
            waiting.append(one)
        for one in waiting:
            yield one.answer()

    def _target(self, path: str) -> str:
        directory, name = posixpath.split(path)
        return posixpath.join(directory, "__pycache__", f"{name.removesuffix(_ENDING)}.{self._tag}.pyc")

    def _keep(self, result: bytes) -> CompiledFile:
        offset = self._results.tell()
        try:
            self._results.write(result)
            self._results.flush()
        except OSError as error:
            raise write_error(Path("the byte code"), offset, error) from error
        return CompiledFile(self._results, offset, len(result), hashlib.sha256(result).hexdigest())


class _Compiler:
    """A process of the image's Python; one request at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = ""
        program = Path(__file__).with_name("zygote.py").read_text(encoding="utf-8")
        # The directory that Python puts first when it is given its program as text is the working directory.
        start = "import sys; del sys.path[0]; exec(sys.argv[1])"
        # No -I, which would ignore the hash seed: older Pythons write sets in its order.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        try:
            self._process = subprocess.Popen(
                [path, "-s", "-S", "-B", "-W", "ignore", "-c", start, program],
                env={**environment, "PYTHONHASHSEED": "0"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        except OSError as error:
            raise LayerError(f"cannot run the interpreter {path}: {error.strerror or error}. {_HOW}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout

    def __enter__(self) -> _Compiler:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        self._output.close()
        self._process.wait()

    def check(self, python: str) -> str:
        """Return the tag of the interpreter's byte code files, after checking that they are for ``python``."""
        fields = self._output.readline(200).decode("utf-8", "replace").split()
        if len(fields) != 5:
            raise LayerError(f"{self._path} is not an interpreter of Python 3.7 or later. {_HOW}")
        implementation, version, level, number, tag = fields
        if implementation != "cpython" or version != python:
            raise LayerError(
                f"byte code of Python {python} is compiled by CPython {python}, and {self._path} is {implementation} "
                f"{version}. {_HOW}"
            )
        expected = _FORMATS.get(version)
        if level not in ("final", "candidate") or expected not in (None, int(number)):
            raise LayerError(
                f"{self._path} ({level}) writes byte code of format {number}, which releases of Python {version} do "
                f"not read{f' (theirs is {expected})' if expected else ''}. {_HOW}"
            )
        return tag

    def ask(self, path: str, source: bytes) -> None:
        """Hand over a file; its result is asked for before the next one."""
        name = path.encode()
        self._file = path
        try:
            self._input.write(struct.pack("<LL", len(name), len(source)) + name + source)
            self._input.flush()
        except BrokenPipeError as error:
            raise self._died() from error

    def answer(self) -> bytes:
        """Return the byte code of the last file; empty if it does not compile."""
        head = self._output.read(4)
        length = struct.unpack("<L", head)[0] if len(head) == 4 else 0
        result = self._output.read(length)
        if len(head) < 4 or len(result) < length:
            raise self._died()
        return result

    def _died(self) -> LayerError:
        return LayerError(f"the interpreter {self._path} died while it compiled {self._file}. {_HOW}")


def _own(python: str) -> Path:
    own = "{}.{}".format(*sys.version_info)
    if own != python or not sys.executable:
        raise LayerError(
            f"byte code of Python {python} is compiled by CPython {python}, and this tool runs on {own}. {_HOW}"
        )
    return Path(sys.executable)
