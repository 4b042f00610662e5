"""Runs the subprocess that reads a flow, for a limited time and with nothing of this process's environment."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mfbazel.analyze.errors import DynamicError

_PACKAGE = Path(__file__).absolute().parent
_CHILD = _PACKAGE / "child" / "__main__.py"
EXTENSION = _PACKAGE.parents[1] / "extension"
"""The directory of mfbazel's extension of Metaflow."""

MEMORY = 4 * 1024**3
"""Bytes of address space that the subprocess may have."""

NAMESPACES = True
"""Whether the subprocess leaves the network's namespace where the kernel lets it; the guard stands in either case."""

_SPEC, _OUTCOME = "flow-spec.json", "outcome.json"
_KEPT = ("LD_LIBRARY_PATH", "PYTHONHOME")
"""Environment variables that an interpreter may need to start."""
_SHOWN = 8192
"""Bytes that are kept of what the subprocess prints."""


@dataclass(frozen=True)
class Outcome:
    """What the subprocess wrote.

    Attributes:
        spec: what ``bazel_flow_spec.describe`` of the extension says; ``None`` where there was an error.
        error: ``kind`` and what belongs to it, as ``child/run.py`` says.
        refusals: what the flow tried and must not: ``what``, ``detail``, ``file``, ``line``.
        decisions: where a missing package decided: ``file``, ``line``, ``name``.
        printed: the end of what was printed.
    """

    spec: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    refusals: Sequence[Mapping[str, Any]]
    decisions: Sequence[Mapping[str, Any]]
    printed: str


@dataclass(frozen=True)
class Ended:
    """The subprocess ended without a word: it was killed, took too long (``code`` is ``None``) or ended itself."""

    code: int | None
    printed: str


def run(flow: Path, roots: Sequence[Path], arguments: Sequence[str], timeout: float) -> Outcome | Ended:
    """Read the flow in the file ``flow``.

    Args:
        flow: an absolute path.
        roots: absolute directories of first-party code, the flow's own first; that one is the working directory.
        arguments: of Metaflow, after the ones that every flow is read with.
        timeout: in seconds.

    Raises:
        DynamicError: Metaflow is not there, or the subprocess cannot be started.
    """
    if importlib.util.find_spec("metaflow") is None:
        raise DynamicError(
            "Metaflow is not installed where the flow is read, and the flow must be run to be known: run this with a "
            "Python that has `metaflow`, or write what is needed as literals"
        )
    with tempfile.TemporaryDirectory(prefix="mfbazel-read-", ignore_cleanup_errors=True) as name:
        directory = Path(name).resolve()
        request = directory / "request.json"
        request.write_text(json.dumps(_request(flow, roots, arguments, timeout, directory)), encoding="utf-8")
        code, printed = _run(request, roots[0], timeout)
        outcome = _json(directory / _OUTCOME)
        if outcome is None:
            return Ended(code, printed)
        spec = None if outcome["error"] else _json(directory / _SPEC)
        return Outcome(spec, outcome["error"], outcome["refusals"], outcome["decisions"], printed)


def _request(
    flow: Path, roots: Sequence[Path], arguments: Sequence[str], timeout: float, directory: Path
) -> dict[str, Any]:
    fixed = {
        "environment": "bazel",
        "metadata": "local",
        "datastore": "s3",  # remote decorators refuse a local one; nothing is read or written
        "datastore-root": f"s3://{directory.name}/metaflow",
        "event-logger": "nullSidecarLogger",
        "monitor": "nullSidecarMonitor",
    }
    path = [str(EXTENSION), *(str(Path(item).absolute()) for item in sys.path if item)]
    return {
        "flow": str(flow),
        "roots": [str(root) for root in roots],
        "path": path,
        "installed": [item for item in path if _is_installed(Path(item), roots)],
        "arguments": ["--quiet", "--no-pylint", *(f"--{name}={value}" for name, value in fixed.items()), *arguments],
        "parent": os.getpid(),
        "timeout": timeout,
        "memory": MEMORY,
        "namespaces": NAMESPACES,
    }


def _is_installed(directory: Path, roots: Sequence[Path]) -> bool:
    """Say whether ``directory`` of the import path has installed packages, and not first-party code of a root above."""
    if directory in roots:
        return False
    inside = any(directory.is_relative_to(root) for root in roots)
    return not inside or directory == EXTENSION or next(directory.glob("*.dist-info"), None) is not None


def _environment(directory: Path) -> dict[str, str]:
    """Return the whole environment of the subprocess: the same everywhere, and no secret in it."""
    home = directory / "home"
    home.mkdir()
    return {
        **{name: os.environ[name] for name in _KEPT if name in os.environ},
        "HOME": str(home),
        "TMPDIR": str(directory),
        "METAFLOW_HOME": str(home),
        "METAFLOW_USER": "mfbazel",
        "USER": "mfbazel",
        "LOGNAME": "mfbazel",
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONSAFEPATH": "1",
    }


def _run(request: Path, cwd: Path, timeout: float) -> tuple[int | None, str]:
    """Run the subprocess; return its exit code (``None``: it took too long) and the end of what it printed."""
    try:
        process = subprocess.Popen(
            [sys.executable, str(_CHILD), str(request)],
            cwd=cwd,
            env=_environment(request.parent),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise DynamicError(f"the Python {sys.executable} cannot be started to read the flow: {error}") from error
    assert process.stdout is not None
    tail: deque[bytes] = deque(maxlen=2)
    drain = threading.Thread(target=_drain, args=(process.stdout, tail), daemon=True)
    drain.start()
    code: int | None = None
    try:
        code = process.wait(timeout)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        # The group outlives its leader where something was started; in a process namespace it is already gone.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    drain.join(timeout=2)
    return code, b"".join(tail).decode("utf-8", "replace")[-_SHOWN:]


def _drain(stream: IO[bytes], tail: deque[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError), stream:
        while block := os.read(stream.fileno(), _SHOWN):
            tail.append(block)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
