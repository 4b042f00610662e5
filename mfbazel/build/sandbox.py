"""Running foreign code of a build: no network, nothing of this process's environment, ended for certain."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from mfbazel.build.archive import EPOCH
from mfbazel.build.errors import BuildError

TIMEOUT = 3600.0
"""Seconds that one call of a build backend may take."""

_INSIDE = Path(__file__).absolute().parent / "inside.py"
_KEPT = ("LD_LIBRARY_PATH",)
"""What an interpreter may need to start."""
_BLOCK = 8192
_SHOWN = 64 * 1024
"""Bytes that are kept of what a build prints."""


@dataclass
class Sandbox:
    """Runs commands below ``directory``, which has a temporary home beside what is built.

    ``printed``: the end of what the last command printed.
    """

    directory: Path
    timeout: float = TIMEOUT
    printed: str = field(default="")

    def environment(self, binaries: Path | None = None) -> dict[str, str]:
        """Return the whole environment of a command: the same on every machine, and no secret in it."""
        for name in ("home", "tmp"):
            (self.directory / name).mkdir(exist_ok=True)
        home = str(self.directory / "home")
        # Compilers write the names of directories into what they make.
        flags = f"-g0 -ffile-prefix-map={self.directory}=/build"
        return {
            **{name: os.environ[name] for name in _KEPT if name in os.environ},
            "HOME": home,
            "XDG_CACHE_HOME": f"{home}/.cache",
            "XDG_CONFIG_HOME": f"{home}/.config",
            "TMPDIR": str(self.directory / "tmp"),
            "USER": "mfbazel",
            "LOGNAME": "mfbazel",
            "PATH": f"{binaries}{os.pathsep}{os.defpath}" if binaries else os.defpath,
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "PYTHONHASHSEED": "0",
            "PYTHONUTF8": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONNOUSERSITE": "1",
            "SOURCE_DATE_EPOCH": str(EPOCH),
            "CFLAGS": flags,
            "CXXFLAGS": flags,
            "PIP_NO_INDEX": "1",
            "UV_OFFLINE": "1",
        }

    def run(self, command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> None:
        """Run ``command`` (its program an absolute path).

        Raises:
            subprocess.CalledProcessError: it failed; :attr:`printed` says what it said.
            BuildError: it cannot be started, or takes too long.
        """
        code = self._run([sys.executable, "-I", str(_INSIDE), str(os.getpid()), *command], cwd, environment)
        if code is None:
            raise BuildError(
                f"the build did not end within {self.timeout:.0f} s; it was ended. Its last words:\n"
                f"{tail(self.printed)}"
            )
        if code != 0:
            raise subprocess.CalledProcessError(code, list(command), self.printed)

    def _run(self, command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> int | None:
        try:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise BuildError(f"the Python {sys.executable} cannot be started to build with: {error}") from error
        assert process.stdout is not None
        kept: deque[bytes] = deque(maxlen=_SHOWN // _BLOCK)
        drain = threading.Thread(target=_drain, args=(process.stdout, kept), daemon=True)
        drain.start()
        code: int | None = None
        try:
            code = process.wait(self.timeout)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            # The group outlives its leader where something was started; in a process namespace it is already gone.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        drain.join(timeout=2)
        self.printed = b"".join(kept).decode("utf-8", "replace")
        return code


def _drain(stream: IO[bytes], kept: deque[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError), stream:
        while block := os.read(stream.fileno(), _BLOCK):
            kept.append(block)


def tail(text: str, lines: int = 15) -> str:
    """Return the last ``lines`` lines of ``text`` that are not empty, marked as quoted."""
    kept = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(f"  | {line}" for line in kept[-lines:]) or "  | (it said nothing)"
