"""Compiles Python files for :mod:`mfbazel.layer.bytecode`; run by the image's Python, 3.7 or later, not imported.

What :mod:`marshal` writes depends on how often the process refers to a string, and so on whatever it compiled before.
Therefore this process compiles nothing: it forks a child per file, which reads its request, answers and ends.

Request: two 32-bit little-endian lengths, the file's path in the image, its source. Answer: a 32-bit length and the
``.pyc`` (PEP 552, hash-based, unchecked); the length is 0 for a source that does not compile. Before the first request
one line says which Python this is.
"""

import importlib.util
import marshal
import os
import signal
import struct
import sys

_DONE, _NO_MORE = 0, 3
_HASH_BASED_UNCHECKED = 1


def identity() -> str:
    """Return implementation, version ``X.Y``, release level, number of the byte code format, and tag of file names."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    magic = int.from_bytes(importlib.util.MAGIC_NUMBER[:2], "little")
    return f"{sys.implementation.name} {version} {sys.version_info.releaselevel} {magic} {sys.implementation.cache_tag}"


def compiled(path: str, source: bytes) -> bytes:
    """Return the byte code file of a source, nothing if it does not compile."""
    try:
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
    except Exception:
        return b""
    head = importlib.util.MAGIC_NUMBER + struct.pack("<L", _HASH_BASED_UNCHECKED)
    return head + importlib.util.source_hash(source) + marshal.dumps(code)


def read(count: int) -> bytes:
    """Return exactly ``count`` bytes of standard input, nothing at its end."""
    parts = []
    while count:
        part = os.read(0, count)
        if not part:
            return b""
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def write(data: bytes) -> None:
    """Write all of ``data`` to standard output."""
    while data:
        data = data[os.write(1, data) :]


def answer() -> int:
    """Serve one request; return the exit code of the child that does so."""
    head = read(8)
    if not head:
        return _NO_MORE
    path_length, source_length = struct.unpack("<LL", head)
    path = read(path_length).decode()
    result = compiled(path, read(source_length))
    write(struct.pack("<L", len(result)) + result)
    return _DONE


def serve() -> None:
    """Have a child serve each request, until there are no more or one of them dies."""
    # Whoever asked may be gone: that is no error of this process.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    write(identity().encode() + b"\n")
    status = _DONE
    while status == _DONE:
        child = os.fork()
        if child == 0:
            os._exit(answer())
        status = os.waitpid(child, 0)[1]


if __name__ == "__main__":
    serve()
