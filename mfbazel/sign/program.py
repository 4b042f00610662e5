"""Running the program of a signer: found by name, no secret on its command line, never waiting for a person."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mfbazel.registry.redaction import redact
from mfbazel.sign.errors import SignError

_SECONDS = 300.0  # a key service or a transparency log may be slow, and none is this slow
_SECRET = re.compile(r"PASSWORD|PASSPHRASE|TOKEN|SECRET|(^|_)KEY($|_)|CREDENTIAL", re.I)
_SHORTEST_SECRET = 6  # characters; shorter values would blot out words
_LINE = 30  # characters; a line of a PEM file has more
_LONGEST = 800  # characters of what a program said


@dataclass(frozen=True)
class Finished:
    """A program that ran: its exit ``status``, and what it said on standard error, without secrets."""

    status: int
    said: str
    output: str = field(repr=False, default="")


@dataclass(frozen=True)
class Program:
    """A program.

    Attributes:
        path: absolute.
        environment: variables besides those of this process.
    """

    path: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *arguments: str) -> Finished:
        """Run it to its end.

        Raises:
            SignError: it cannot be started, or does not end.
        """
        name = Path(self.path).name
        try:
            done = subprocess.run(
                [self.path, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                env={**os.environ, **self.environment},
                check=False,
            )
        except OSError as error:
            raise SignError(f"{self.path} cannot be started: {error.strerror}. Name a working {name}.") from error
        except subprocess.TimeoutExpired:
            raise SignError(
                f"{name} {arguments[0]} did not end within {_SECONDS:.0f} s. Look whether the key service, the "
                "registry or the transparency log answers."
            ) from None
        return Finished(done.returncode, _said(done.stderr), done.stdout)


def find_program(signer: str, told: str) -> str:
    """Return the absolute path of the program of ``signer``: ``told`` (a path or a name on PATH), else its own name.

    Raises:
        SignError: there is none.
    """
    found = shutil.which(told or signer)
    if not found:
        raise SignError(
            f"{signer}, which signs and verifies, was not found: {told or signer!r} is not an executable file or a "
            f'program on PATH. Install {signer}, or name it: sign_options = {{"program": "…"}}, on a command line '
            "--sign-option program=…"
        )
    return os.path.abspath(found)  # noqa: PTH100 - a symlink must stay one


def first_found(said: str, reasons: Sequence[tuple[str, str]], otherwise: str) -> str:
    """Return the advice of the first of ``reasons``, (words, advice), whose words a program ``said``."""
    return next((advice for words, advice in reasons if words in said), otherwise)


def _secrets() -> list[str]:
    """Return the values of variables that hold secrets by their names; the program knows them."""
    found = {value for name, value in os.environ.items() if _SECRET.search(name) and len(value) >= _SHORTEST_SECRET}
    return sorted({*found, *(line for value in found for line in value.splitlines() if len(line) > _LINE)}, key=len)[
        ::-1
    ]


def _said(text: str) -> str:
    """Return the lines that tell why, once each; warnings and repetitions are left out."""
    for secret in _secrets():
        text = text.replace(secret, "***")
    lines = [line.strip() for line in redact(text).splitlines()]
    errors = [line for line in lines if line.startswith("Error: ") or "error" in line.lower()] or lines
    kept = dict.fromkeys(
        line.removeprefix("Error: ").removeprefix("error during command execution: ")
        for line in errors
        if line and not line.startswith("WARNING")
    )
    said = "; ".join(kept)
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…"
