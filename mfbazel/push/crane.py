"""Running crane, which does all the talking to registries: credentials, retries and uploads are crane's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from mfbazel.push.errors import PushError
from mfbazel.push.layout import Layout
from mfbazel.push.repository import Repository
from mfbazel.registry.redaction import redact

# Lines of crane's log on standard error (crane 0.20), after the date and the time.
_EVENT = re.compile(r"(pushed|existing|mounted) (blob|manifest): (sha256:[0-9a-f]{64})")
_MISSING = re.compile(r"\b(MANIFEST_UNKNOWN|NAME_UNKNOWN|NOT_FOUND)\b|status code 404")
_DIGEST_TIMEOUT = 120  # seconds for one small question, with crane's own retries


class Event(Enum):
    """What crane says it did with a blob or a manifest."""

    PUSHED = "pushed"
    EXISTING = "existing"
    MOUNTED = "mounted"


OnBlob = Callable[[Event, str], None]
"""Called with what happened to the blob of a digest."""


class CraneError(PushError):
    """A call of crane failed.

    Attributes:
        output: what crane wrote on standard error, credentials removed.
    """

    def __init__(self, output: str, status: int) -> None:
        self.output = redact(output.strip())
        last = [line for line in self.output.splitlines() if line.startswith("Error: ")][-1:]
        self.reason = last[0].removeprefix("Error: ") if last else self.output or f"exit status {status}"
        super().__init__(self.reason)

    @property
    def missing(self) -> bool:
        """Whether the registry answered that it does not have what was asked for."""
        return bool(_MISSING.search(self.reason))


@dataclass(frozen=True)
class Crane:
    """A crane program and the options that every call gets.

    Attributes:
        program: its path.
        insecure: whether registries may be spoken to without TLS, or with a certificate that cannot be verified.
    """

    program: Path
    insecure: bool = False

    def push(self, layout: Layout, reference: str, on_blob: OnBlob) -> None:
        """Upload the image of ``layout`` as ``reference``, sending only blobs that the registry lacks.

        Raises:
            CraneError: it failed; a part of the blobs may have been sent.
        """
        lines: list[str] = []
        with self._start("push", str(layout.path), reference) as process:
            assert process.stderr is not None
            try:
                for line in process.stderr:
                    lines.append(line)
                    if (event := _EVENT.search(line)) and event[2] == "blob":
                        on_blob(Event(event[1]), event[3])
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise CraneError("".join(lines), process.returncode)

    def digest(self, reference: str) -> str | None:
        """Return the digest that the registry gives for ``reference``; ``None`` when it has no such manifest.

        Raises:
            CraneError: the registry did not answer, or refused.
        """
        try:
            return self._run("digest", reference).strip()
        except CraneError as error:
            if error.missing:
                return None
            raise

    def tag(self, repository: Repository, digest: str, tag: str) -> None:
        """Let ``tag`` name the image that the repository already has.

        Raises:
            CraneError: it failed.
        """
        self._run("tag", repository.by_digest(digest), tag)

    def _command(self, *arguments: str) -> list[str]:
        return [str(self.program), *arguments, *(["--insecure"] if self.insecure else [])]

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start crane with its log readable line by line."""
        try:
            return subprocess.Popen(
                self._command(*arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise _not_startable(self.program, error) from error

    def _run(self, *arguments: str) -> str:
        """Run crane to its end and return its standard output."""
        try:
            done = subprocess.run(
                self._command(*arguments),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_DIGEST_TIMEOUT,
                check=False,
            )
        except OSError as error:
            raise _not_startable(self.program, error) from error
        except subprocess.TimeoutExpired as error:
            raise CraneError(f"Error: i/o timeout: no answer within {_DIGEST_TIMEOUT} s", 124) from error
        if done.returncode:
            raise CraneError(done.stderr, done.returncode)
        return done.stdout


def find_crane(told: str | None) -> Path:
    """Return the absolute path of crane: ``told`` (a path or a name on PATH), else ``crane`` on PATH.

    Raises:
        PushError: there is none.
    """
    found = shutil.which(told or "crane")
    if not found:
        raise PushError(
            f"crane, which pushes images, was not found: {told or 'crane'!r} is not an executable file or a program on "
            "PATH. Install crane (Debian: `apt install crane`), or name it with --crane."
        )
    return Path(os.path.abspath(found))  # noqa: PTH100 - a symlink to crane must stay one


def _not_startable(program: Path, error: OSError) -> PushError:
    return PushError(f"crane cannot be started: {program}: {error.strerror}. Name a working one with --crane.")
