"""The resolver pip-tools: for the Python and the platform that it runs on, and no other."""

from __future__ import annotations

import os
import platform as host
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.requirements import Requirement

from mfbazel.lock.errors import LockError
from mfbazel.lock.model import Pin, Platform
from mfbazel.lock.requirements_txt import parse_resolved
from mfbazel.lock.resolver.pinned import Pinned
from mfbazel.lock.resolver.request import OUTPUT, Request, ResolverFailure
from mfbazel.lock.resolver.scratch import scratch
from mfbazel.wheel.fetch import PIP_LOG, redact, refusal, skipped_pages
from mfbazel.wheel.pip_environment import pip_environment

_OPTIONS = ("--no-header", "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--no-emit-options")
_UNREACHABLE = re.compile(
    r"connection broken by|Could not fetch URL|Max retries exceeded|HTTPError|ConnectionError|SSLError"
)
_NOISE = re.compile(r"^\s*(File \"|Traceback|\^|~|WARNING: Location )|^\s+\S")


class PipTools:
    """``pip-compile`` of the running interpreter."""

    def pins(self, request: Request) -> dict[str, Pin]:
        """See :class:`mfbazel.lock.resolver.request.Resolver`."""
        _check_host(request.python, request.platform)
        _check_request(request)
        with scratch() as directory:
            arguments = request.write(directory, request.kept, {})
            command = [sys.executable, "-m", "piptools", "compile", "--quiet", *_OPTIONS, "--strip-extras"]
            command += ["--allow-unsafe", "--annotation-style", "split", "--pip-args", _formats(request)]
            _run([*command, "--output-file", OUTPUT, *arguments], directory)
            pins = parse_resolved((directory / OUTPUT).read_text(encoding="utf-8"))
        _check_indexes(request, pins)
        return pins


def _run(command: Sequence[str], directory: Path) -> None:
    temporary_files = directory / "tmp"
    temporary_files.mkdir()
    environment = {**pip_environment(temporary_files), "PIP_LOG": str(temporary_files / PIP_LOG)}
    result = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, errors="replace", check=False
    )
    skipped = skipped_pages(temporary_files)
    refused = refusal(result.stderr) or (refusal(skipped) if result.returncode else None)
    if refused:
        raise LockError(f"{refused}; nothing was locked")
    # pip goes on without an index that it cannot reach, and another one may have another package of a name.
    away = any(" 403 Client Error" not in line for line in skipped.splitlines())
    if result.returncode != 0 or away:
        raise _failure(f"{skipped}\n{result.stderr}")


def _check_request(request: Request) -> None:
    if not request.dependencies:
        raise LockError('`"dependencies": false` of an environment needs `resolver = "uv"`')
    if request.overrides:
        raise LockError(f'mfbazel.toml has overrides ({request.overrides[0]} …), which need `resolver = "uv"`')
    _check_indexes(request, [Requirement(text).name for text in (*request.wanted, *request.runtime)])


def _check_indexes(request: Request, names: Iterable[str]) -> None:
    """Refuse what comes from an index of the policy: pip asks all indexes for everything.

    Raises:
        LockError: one of ``names`` does.
    """
    pinned = Pinned(request.indexes, os.environ)
    for name in sorted(pinned.among(names)):
        index = pinned.of(name)
        raise LockError(
            f"{name} comes from one index alone (mfbazel.toml: {index.where if index else name}), which pip-tools "
            'cannot be told: use `resolver = "uv"`'
        )


def _formats(request: Request) -> str:
    """Return pip's arguments: wheels only, and sdists only of what is built from source."""
    return " ".join(["--only-binary :all:", *(f"--no-binary {name}" for name in sorted(request.build))])


def _check_host(python: str, platform: Platform) -> None:
    """Refuse what pip-tools cannot do.

    Raises:
        LockError: another Python or platform than the running one.
    """
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    hint = 'Use `resolver = "uv"`, which resolves for any Python and platform.'
    if python != here:
        raise LockError(
            f"attribute `resolver`: pip-tools resolves for Python {here} only, which runs it, not {python}. {hint}"
        )
    if host.system() != "Linux" or host.machine() != platform.machine:
        this = f"{host.system().lower()} {host.machine()}"
        raise LockError(
            f"attribute `resolver`: pip-tools resolves for this machine ({this}) only, not for {platform}. {hint}"
        )


def _failure(stderr: str) -> ResolverFailure:
    text = redact(stderr)
    if "No module named piptools" in text:
        return ResolverFailure("pip-tools is not installed: `pip install pip-tools`")
    kept = [line for line in text.splitlines() if line.strip() and not _NOISE.match(line)]
    return ResolverFailure("\n".join(kept) or text.strip(), unreachable=bool(_UNREACHABLE.search(text)))
