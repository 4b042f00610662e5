#!/usr/bin/env python3
"""Fetch exactly one wheel, named by its sha256, with the user's own pip configuration.

Runs as a plain script (``python3 fetch.py …``) under CPython 3.9 or newer with the standard library alone, because a
Bazel repository rule calls it before anything is installed; and as :mod:`mfbazel.wheel.fetch`.

The wheel is looked up in the wheel cache first (:func:`cache_directory`), at ``<sha256>/<file name>``. What is not
there is downloaded by ``pip download`` of the interpreter named by ``--python``: index, credentials, proxies and
certificates are pip's business and come from the user's configuration. The content is hashed here once more before it
is used; the output appears by a rename, or not at all.

Compressed tag sets and file names: the binary distribution format of the packaging specifications (PEP 427, PEP 425).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from mfbazel.wheel.pip_environment import UnsetVariableError, pip_environment

CACHE_VARIABLE = "MFBAZEL_WHEEL_CACHE"
_CHUNK = 1 << 20
_PROGRESS_AFTER_SECONDS = 2.0
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*://)[^\s/]+@")
_GOT_HASH = re.compile(r"\bGot\s+([0-9a-f]{64})\b")
_UNREACHABLE = re.compile(
    r"connection broken by|Could not fetch URL|HTTP error \d+|HTTPError|ConnectionError|ConnectTimeout|Read timed out|"
    r"Max retries exceeded|SSLError|ProxyError|There was a problem confirming the ssl certificate|"
    r"connection-failed|incomplete-download|"
    r"IncompleteRead|ProtocolError|NetworkConnectionError|Network is unreachable|Temporary failure in name resolution"
)
_REFUSED = re.compile(
    r"\b(?P<status>401|403) (?:Error, Credentials not correct|Client Error)[^\n]*?(?P<url>https?://\S+)"
)
_REASON = re.compile(r"connection broken by '(?P<reason>.*)'(?:: /\S*)?$")
_SKIPPED = re.compile(r"Could not fetch URL (?P<url>\S+): (?P<reason>.*) - skipping$")
_DIAGNOSED = re.compile(r"^\s*\u00d7 (?P<what>.+)\n\u2570\u2500> (?P<why>.+)$", re.MULTILINE)
PIP_LOG = "pip.log"
_RAISED = re.compile(r"^[A-Za-z_]*(?:Error|Timeout)\(.*?(?:: )?(?P<text>[^:()]*(?:\[Errno -?\d+\][^'\")]*))['\")]*$")


class FetchError(Exception):
    """The wheel could not be had; the message says why and what to do next."""


class Wheel(NamedTuple):
    """One wheel: distribution ``name``, ``version``, ``file`` name as the index has it, lower-case hex ``sha256``."""

    name: str
    version: str
    file: str
    sha256: str


class Tags(NamedTuple):
    """The three compressed tag sets of a wheel's file name, expanded."""

    pythons: tuple[str, ...]
    abis: tuple[str, ...]
    platforms: tuple[str, ...]


def redact(text: str) -> str:
    """Return ``text`` with the user information of every URL replaced by ``****``."""
    return _USERINFO.sub(lambda match: match["scheme"] + "****@", text)


def skipped_pages(directory: Path) -> str:
    """Return the lines of the file :data:`PIP_LOG` in ``directory`` about indexes that pip went on without, saying so
    nowhere else; not those that answered that they have no such package."""
    try:
        lines = (directory / PIP_LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    found = (_SKIPPED.search(line) for line in lines)
    return "\n".join(dict.fromkeys(match[0] for match in found if match and "404 Client Error" not in match["reason"]))


def refusal(log: str) -> str | None:
    """Return what to tell when pip's ``log`` says that an index refuses who asks; ``None`` when it does not."""
    refused = _REFUSED.search(redact(log))
    if not refused:
        return None
    return (
        f"the package index {refused['url']} refuses the credentials, or wants some (HTTP {refused['status']}). They "
        "come from netrc, from keyring, from the URLs that `python3 -m pip config list` shows, or from "
        "UV_INDEX_<NAME>_USERNAME and UV_INDEX_<NAME>_PASSWORD. Check that they have not expired"
    )


def parse_tags(file: str) -> Tags:
    """Expand the compressed tag sets of the wheel file name ``file``.

    Raises:
        FetchError: ``file`` is not the name of a wheel.
    """
    stem, dot, ending = file.rpartition(".")
    parts = stem.split("-")
    if not dot or ending != "whl" or len(parts) not in (5, 6) or "/" in file or "\\" in file:
        raise FetchError(f"'{file}' is not a wheel's file name (name-version[-build]-python-abi-platform.whl)")
    pythons, abis, platforms = (tuple(part.split(".")) for part in parts[-3:])
    return Tags(pythons, abis, platforms)


def cache_directory() -> Path:
    """Return the wheel cache: ``$MFBAZEL_WHEEL_CACHE``, ``$XDG_CACHE_HOME/mfbazel/wheels`` or
    ``~/.cache/mfbazel/wheels``."""
    explicit = os.environ.get(CACHE_VARIABLE)
    if explicit:
        return Path(explicit)
    xdg = os.environ.get("XDG_CACHE_HOME")
    base = Path(xdg) if xdg else Path.home() / ".cache"
    return base / "mfbazel" / "wheels"


def sha256_of(path: Path) -> str:
    """Return the lower-case hex sha256 of the file ``path``."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(_CHUNK), b""):
            digest.update(block)
    return digest.hexdigest()


def cached(wheel: Wheel, cache: Path) -> Path | None:
    """Return the verified cache entry of ``wheel``, or ``None``; an entry with another hash is dropped."""
    entry = cache / wheel.sha256 / wheel.file
    try:
        if sha256_of(entry) == wheel.sha256:
            return entry
        entry.unlink()
    except OSError:
        return None
    return None


def place(source: Path, target: Path, sha256: str = "") -> bool:
    """Make ``target`` the same file as ``source`` by a rename; ``target`` is replaced.

    It becomes a hard link, or a copy where it cannot be one or others may change the file: a cache may be shared.

    Args:
        source: the file.
        target: where it is wanted.
        sha256: what the content must be, compared once nobody else can change it any more; empty: anything.

    Returns:
        whether the content was ``sha256``; if not, ``target`` is as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as directory:
        beside = Path(directory) / target.name
        try:
            os.link(source, beside)
            if not _is_ours_alone(beside):
                beside.unlink()
                shutil.copyfile(source, beside)
        except OSError:
            shutil.copyfile(source, beside)
        if sha256 and sha256_of(beside) != sha256:
            return False
        beside.replace(target)
    return True


def _is_ours_alone(path: Path) -> bool:
    """Make a file that is this user's one that no other may write; tell whether it is."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or (hasattr(os, "geteuid") and status.st_uid != os.geteuid()):
        return False
    if status.st_mode & 0o022:
        path.chmod(stat.S_IMODE(status.st_mode) & ~0o022)
    return True


def fetch(
    wheel: Wheel,
    output: Path,
    python: str | None = None,
    cache: Path | None = None,
    index: tuple[str, str] | None = None,
) -> Path:
    """Put ``wheel`` at ``output`` and into the wheel cache.

    Args:
        wheel: what to fetch; nothing else is accepted in its place.
        output: path of the wheel to write, replaced when it exists.
        python: the interpreter whose pip downloads (default: the running one).
        cache: the wheel cache (default: :func:`cache_directory`).
        index: name and URL (with ``${VARIABLE}``) of the policy's index that has the wheel; no other is asked.

    Returns:
        ``output``.

    Raises:
        FetchError: bad arguments, hash differs, index unreachable, no such file on the index, or the disk refuses.
    """
    parse_tags(wheel.file)
    return obtain(wheel, output, cache, lambda directory: _download(wheel, directory, python or sys.executable, index))


def obtain(wheel: Wheel, output: Path, cache: Path | None, download: Callable[[Path], Path]) -> Path:
    """Put ``wheel`` at ``output``, from the wheel cache or else by ``download``, and into the cache; return ``output``.

    Args:
        wheel: what to fetch; also a source archive.
        output: path of the file to write, replaced when it exists.
        cache: the wheel cache (default: :func:`cache_directory`).
        download: takes an empty directory and returns the verified file in it.

    Raises:
        FetchError: of ``download``, the disk refuses, or ``wheel`` is none.
    """
    _check(wheel)
    cache = cache_directory() if cache is None else cache
    try:
        entry = cached(wheel, cache)
        if entry is not None and place(entry, output, wheel.sha256):
            return output
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as directory:
            downloaded = download(Path(directory))
            _fill_cache(downloaded, wheel, cache)
            downloaded.replace(output)
    except OSError as error:
        raise FetchError(f"{wheel.file}: cannot write {output}: {error.strerror or error}") from error
    return output


def _check(wheel: Wheel) -> None:
    """Refuse what would be an option of pip, a line of its requirements file, or another place of the cache."""
    if not re.fullmatch(r"[0-9a-f]{64}", wheel.sha256):
        raise FetchError(f"sha256 '{wheel.sha256}' of {wheel.file} is not 64 lower-case hexadecimal digits")
    if not _NAME.fullmatch(wheel.name) or not _VERSION.fullmatch(wheel.version):
        raise FetchError(
            f"{wheel.name!r} {wheel.version!r} of {wheel.file} is not the name and version of a distribution: the lock "
            "was changed by hand, or is damaged. Run the `.lock` target of the flow again."
        )


def _fill_cache(source: Path, wheel: Wheel, cache: Path) -> None:
    """Enter ``source`` into the cache; a cache that cannot be written is no reason to fail."""
    with contextlib.suppress(OSError):
        place(source, cache / wheel.sha256 / wheel.file)


def _download(wheel: Wheel, directory: Path, python: str, index: tuple[str, str] | None) -> Path:
    """Download ``wheel`` into ``directory`` with pip and return the verified file."""
    requirement = directory / "requirement.txt"
    requirement.write_text(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
    target, temporary = directory / "wheel", directory / "tmp"
    temporary.mkdir()
    command = pip_command(wheel, requirement, target, python)
    try:
        environment = {**pip_environment(temporary, python, index), "PIP_LOG": str(temporary / PIP_LOG)}
    except UnsetVariableError as error:
        raise FetchError(f"{wheel.name} {wheel.version}: mfbazel.toml: `url`: {error}") from error
    except OSError as error:
        raise FetchError(f"cannot run pip with the interpreter '{python}': {error.strerror}") from error
    with _progress(wheel, directory):
        try:
            result = subprocess.run(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
            )
        except OSError as error:
            raise FetchError(f"cannot run pip with the interpreter '{python}': {error.strerror}") from error
    if result.returncode != 0:
        _explain(wheel, python, f"{result.stdout}\n{skipped_pages(temporary)}")
    return _verified(wheel, target)


def pip_command(wheel: Wheel, requirement: Path, target: Path, python: str) -> list[str]:
    """Return the command that downloads ``wheel``, pinned with its hash in the file ``requirement``, into ``target``.

    pip matches tags one by one, so every tag of the compressed sets is named. ``--ignore-requires-python``: the wheel
    was chosen when it was locked; the version named here only has to fit its tags.
    """
    tags = parse_tags(wheel.file)
    implementation, version = _interpreter(tags.pythons)
    command = [python, "-m", "pip", "download", "--no-input", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    command += ["--ignore-requires-python", "--progress-bar", "off", "--dest", str(target)]
    command += ["--python-version", version, "--implementation", implementation]
    for abi in tags.abis:
        command += ["--abi", abi]
    for platform in tags.platforms:
        command += ["--platform", platform]
    return [*command, "--requirement", str(requirement)]


def _interpreter(pythons: Sequence[str]) -> tuple[str, str]:
    """Return pip's implementation and Python version for the python tags of a wheel: the newest of them."""
    newest = max(pythons, key=lambda tag: [int(digits) for digits in _version_digits(tag)])
    match = re.match(r"[a-z]+", newest)
    return (match.group() if match else "py"), "".join(_version_digits(newest)) or "3"


def _version_digits(tag: str) -> tuple[str, ...]:
    """Split the version of a python tag: ``cp314`` is ``("3", "14")``."""
    digits = re.sub(r"\D", "", tag)
    return (digits[:1], digits[1:]) if len(digits) > 1 else (digits,) if digits else ()


def _verified(wheel: Wheel, target: Path) -> Path:
    """Return the one file in ``target`` after checking that it is ``wheel``."""
    files = sorted(target.iterdir()) if target.is_dir() else []
    if len(files) != 1:
        raise FetchError(f"pip downloaded {len(files)} files instead of {wheel.file}")
    actual = sha256_of(files[0])
    if actual != wheel.sha256:
        _hash_differs(wheel, actual)
    return files[0]


def _hash_differs(wheel: Wheel, actual: str) -> NoReturn:
    raise FetchError(
        f"{wheel.name} {wheel.version}: the hash of {wheel.file} differs\n"
        f"  locked:   sha256:{wheel.sha256}\n"
        f"  received: sha256:{actual}\n"
        "The file on the index is not the one that was locked; it was not used. If the new file is to be "
        "trusted, run the "
        "`.lock` target of the flow again with `-- --upgrade-package " + wheel.name + "`."
    )


def _explain(wheel: Wheel, python: str, log: str) -> NoReturn:
    """Turn pip's output ``log`` into the error that says what happened."""
    log = redact(log)
    got = _GOT_HASH.search(log)
    if got:
        _hash_differs(wheel, got.group(1))
    if "No module named pip" in log:
        raise FetchError(f"the interpreter '{python}' has no pip: install it (Debian: `apt-get install python3-pip`)")
    refused = refusal(log)
    if refused:
        raise FetchError(f"{wheel.name} {wheel.version}: {refused}; {wheel.file} was not downloaded")
    if _UNREACHABLE.search(log):
        raise FetchError(
            f"{wheel.name} {wheel.version}: the package index could not be reached: {_last_reason(log)}\n"
            f"{wheel.file} was not downloaded. Your pip configuration decides which index is asked: see "
            "`python3 -m pip config list` and the PIP_* environment variables."
        )
    if "No matching distribution found" in log:
        raise FetchError(
            f"{wheel.name} {wheel.version}: no configured index has {wheel.file} any more (sha256:{wheel.sha256})\n"
            "It was deleted, or your pip configuration names another index than when it was locked: see "
            "`python3 -m pip config list`. To lock what is there now, run the `.lock` target of the flow with "
            f"`-- --upgrade-package {wheel.name}`."
        )
    raise FetchError(f"{wheel.name} {wheel.version}: pip could not download {wheel.file}: {_last_reason(log)}")


def _last_reason(log: str) -> str:
    """Return pip's last reason in one line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    for line in reversed(lines):
        match = _REASON.search(line)
        if match:
            return _short(match["reason"])
    for line in reversed(lines):
        match = _SKIPPED.search(line)
        if match:
            return f"{match['url']}: {_short(match['reason'])}"
    diagnosed = _DIAGNOSED.search(log)
    if diagnosed:
        return f"{diagnosed['what']}: {diagnosed['why']}"
    for pattern in (_UNREACHABLE, re.compile("^ERROR: ")):
        for line in reversed(lines):
            if pattern.search(line):
                return line.partition("ERROR: ")[2] or line
    return lines[-1] if lines else "pip said nothing"


def _short(reason: str) -> str:
    """Strip the Python object out of urllib3's ``Error('<object at 0x…>: text')``."""
    text = re.sub(r"<[^<>]* at 0x[0-9a-f]+>: ", "", reason)
    match = re.fullmatch(r"[A-Za-z]+\(['\"](.*)['\"],?\)", text)
    return match.group(1) if match else text


@contextlib.contextmanager
def _progress(wheel: Wheel, directory: Path) -> Iterator[None]:
    """Show the bytes in ``directory`` on standard error while the body runs: on a terminal, and only when
    it takes long."""
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_show_progress, args=(wheel, directory, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _show_progress(wheel: Wheel, directory: Path, done: threading.Event) -> None:
    begin = time.monotonic()
    shown = False
    while not done.wait(0.5):
        if time.monotonic() - begin >= _PROGRESS_AFTER_SECONDS:
            shown = True
            print(f"\r{wheel.file}: {_bytes_below(directory) / 1e6:.1f} MB", end="", file=sys.stderr, flush=True)
    if shown:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _bytes_below(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*.whl"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fetch.py", description="Fetch one wheel by its sha256 with pip's configuration."
    )
    parser.add_argument("--name", required=True, help="distribution name")
    parser.add_argument("--version", required=True)
    parser.add_argument("--file", required=True, help="the wheel's file name")
    parser.add_argument("--sha256", required=True)
    parser.add_argument("--output", required=True, type=Path, help="where to write the wheel")
    parser.add_argument("--index-name", help="the policy's index that has the wheel; no other is asked")
    parser.add_argument("--index-url", help="its URL, with ${VARIABLE} for what stands in the environment")
    parser.add_argument("--python", help="the interpreter whose pip downloads (default: this one)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    arguments = _arguments(argv)
    wheel = Wheel(arguments.name, arguments.version, arguments.file, arguments.sha256)
    index = (arguments.index_name or "", arguments.index_url) if arguments.index_url else None
    try:
        fetch(wheel, arguments.output, arguments.python, index=index)
    except FetchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
