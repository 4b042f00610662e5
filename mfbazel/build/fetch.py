#!/usr/bin/env python3
"""Fetch the source of a wheel: an sdist by its sha256, with the user's pip configuration, or a commit, with git.

Runs as a plain script (``python3 fetch.py sdist|git …``) under CPython 3.9 or newer with the standard library alone,
because a Bazel repository rule calls it before anything is installed; and as :mod:`mfbazel.build.fetch`. No code of the
source is run. An sdist is looked up in the wheel cache first, at ``<sha256>/<file name>``, as wheels are.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from mfbazel.build.errors import BuildError
from mfbazel.build.git import GitSource, fetch_commit
from mfbazel.wheel.fetch import FetchError, Wheel, obtain, redact, sha256_of
from mfbazel.wheel.pip_environment import UnsetVariableError, pip_environment

_SCRIPT = Path(__file__).absolute().parent / "pip_sdist.py"
_ABSENT, _DIFFERENT = 3, 4
_GOT = re.compile(r"\bGot ([0-9a-f]{64})\b")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*\.(?:tar\.gz|tgz|tar\.bz2|tar\.xz|tar|zip)")


def fetch_sdist(
    sdist: Wheel,
    output: Path,
    python: str | None = None,
    cache: Path | None = None,
    index: tuple[str, str] | None = None,
) -> Path:
    """Put the source archive ``sdist`` at ``output`` and into the wheel cache; return ``output``.

    Args:
        sdist: what to fetch, with the file name of the archive; nothing else is accepted in its place.
        output: path of the file to write, replaced when it exists.
        python: the interpreter whose pip downloads (default: the running one).
        cache: the wheel cache (default: :func:`mfbazel.wheel.fetch.cache_directory`).
        index: name and URL (with ``${VARIABLE}``) of the policy's index that has it; no other is asked.

    Raises:
        FetchError: bad arguments, hash differs, index unreachable, no such file on the index, or the disk refuses.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", sdist.sha256):
        raise FetchError(f"sha256 '{sdist.sha256}' of {sdist.file} is not 64 lower-case hexadecimal digits")
    if not _NAME.fullmatch(sdist.file):
        raise FetchError(f"'{sdist.file}' is not a source archive's file name (name-version.tar.gz)")
    return obtain(sdist, output, cache, lambda directory: _download(sdist, directory, python or sys.executable, index))


def _download(sdist: Wheel, directory: Path, python: str, index: tuple[str, str] | None) -> Path:
    temporary = directory / "tmp"
    temporary.mkdir()
    command = [python, str(_SCRIPT), sdist.name, sdist.file, sdist.sha256, str(directory)]
    try:
        environment = pip_environment(temporary, python, index)
        for name in ("PIP_NO_BINARY", "PIP_ONLY_BINARY", "PIP_REQUIREMENT"):
            environment.pop(name, None)
        result = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
    except UnsetVariableError as error:
        raise FetchError(f"{sdist.name} {sdist.version}: mfbazel.toml: `url`: {error}") from error
    except OSError as error:
        raise FetchError(f"cannot run pip with the interpreter '{python}': {error.strerror}") from error
    path = directory / sdist.file
    if result.returncode != 0 or not path.is_file():
        raise _failure(sdist, python, result.returncode, redact(result.stdout))
    actual = sha256_of(path)
    if actual != sdist.sha256:
        raise _differs(sdist, actual)
    return path


def _failure(sdist: Wheel, python: str, code: int, log: str) -> FetchError:
    who = f"{sdist.name} {sdist.version}"
    got = _GOT.search(log)
    if code == _DIFFERENT and got:
        return _differs(sdist, got.group(1))
    if "No module named 'pip'" in log:
        return FetchError(f"the interpreter '{python}' has no pip: install it (Debian: `apt-get install python3-pip`)")
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if "ImportError" in log or "AttributeError" in log or "TypeError" in log:
        return FetchError(
            f"{who}: the pip of '{python}' cannot be asked for sources: {lines[-1]}\nInstall pip 22 or newer, or name "
            "another interpreter in MFBAZEL_PYTHON."
        )
    # An index that cannot be asked is, to pip, one that has nothing.
    trouble = [line.partition("ERROR: ")[2] or line for line in lines if _is_trouble(line)]
    if code == _ABSENT and not trouble:
        return FetchError(
            f"{who}: no configured index has {sdist.file} any more (sha256:{sdist.sha256})\n"
            "It was deleted, or your pip configuration names another index than when it was locked: see "
            "`python3 -m pip config list`. To lock what is there now, run the `.lock` target of the flow with "
            f"`-- --upgrade-package {sdist.name}`."
        )
    reason = trouble[-1] if trouble else lines[-1] if lines else "pip said nothing"
    return FetchError(
        f"{who}: {sdist.file} was not downloaded: {reason}\nYour pip configuration decides which index is asked: see "
        "`python3 -m pip config list` and the PIP_* environment variables."
    )


def _is_trouble(line: str) -> bool:
    asked = "Could not fetch URL" in line and not re.search(r": (?:404|410) Client Error", line)
    return asked or line.startswith("ERROR: ") or "connection broken by" in line


def _differs(sdist: Wheel, actual: str) -> FetchError:
    return FetchError(
        f"{sdist.name} {sdist.version}: the hash of {sdist.file} differs\n"
        f"  locked:   sha256:{sdist.sha256}\n"
        f"  received: sha256:{actual}\n"
        "The file on the index is not the one that was locked; it was not used. If the new file is to be trusted, run "
        f"the `.lock` target of the flow again with `-- --upgrade-package {sdist.name}`."
    )


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fetch.py", description="Fetch the source of a wheel; run nothing of it.")
    commands = parser.add_subparsers(dest="kind", required=True)
    sdist = commands.add_parser("sdist", help="a source archive, with pip's configuration")
    sdist.add_argument("--name", required=True, help="distribution name")
    sdist.add_argument("--version", required=True)
    sdist.add_argument("--file", required=True, help="file name of the archive")
    sdist.add_argument("--sha256", required=True)
    sdist.add_argument("--index-name", help="the policy's index that has it; no other is asked")
    sdist.add_argument("--index-url", help="its URL, with ${VARIABLE} for what stands in the environment")
    sdist.add_argument("--python", help="the interpreter whose pip downloads (default: this one)")
    git = commands.add_parser("git", help="the files of a commit, as a tar")
    git.add_argument("--url", required=True, help="of the repository")
    git.add_argument("--commit", required=True)
    for command in (sdist, git):
        command.add_argument("--output", required=True, type=Path, help="where to write the archive")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    arguments = _arguments(argv)
    try:
        if arguments.kind == "git":
            fetch_commit(GitSource(arguments.url, arguments.commit), arguments.commit, arguments.output)
        else:
            sdist = Wheel(arguments.name, arguments.version, arguments.file, arguments.sha256)
            index = (arguments.index_name or "", arguments.index_url) if arguments.index_url else None
            fetch_sdist(sdist, arguments.output, arguments.python, index=index)
    except (FetchError, BuildError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
