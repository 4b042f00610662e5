"""Running ``uv pip compile`` with the user's configuration, and what its failures mean."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from mfbazel.lock.errors import LockError
from mfbazel.lock.resolver.indexes import Credentials, count_indexes, uv_arguments, uv_environment
from mfbazel.lock.resolver.request import ResolverFailure
from mfbazel.wheel.fetch import redact
from mfbazel.wheel.pip_environment import bundle_certificates, certificates, pip_settings

_UNREACHABLE = re.compile(
    r"Failed to fetch|error sending request|Request failed after|client error \(Connect\)|timed out|"
    r"HTTP status server error|error decoding response body|connection closed before message completed"
)
_DISTRUSTED = re.compile(r"invalid peer certificate|received fatal alert: (?:Certificate|Unknown|Bad|Handshake)")
_CERTIFICATE_HINTS = {
    r"UnknownIssuer|unknown issuer": "nobody whom this machine trusts has signed the index's certificate: name the "
    "authority's certificate in pip's setting `cert` (PIP_CERT), or in SSL_CERT_FILE",
    r"not valid yet|NotValidYet": "the index's certificate is not valid yet: is this machine's clock right?",
    r"certificate expired|Expired": "the index's certificate has expired, or this machine's clock is wrong",
    r"fatal alert: (?:CertificateRequired|BadCertificate|HandshakeFailure)": "the index asks for a client certificate: "
    "name a file with it and its key in pip's setting `client-cert` (PIP_CLIENT_CERT), or in SSL_CLIENT_CERT",
}
_YANKED = re.compile(r"^warning: (`[^`]+==[^`]+` is yanked.*)$", re.MULTILINE)
_TRACE = re.compile(r"^(?:TRACE|DEBUG|INFO|WARN|ERROR) .*\n?", re.MULTILINE)
_STATUS = re.compile(r"^TRACE .*\bwith status (?P<status>\d{3})\b.* for: (?P<url>\S+)$", re.MULTILINE)
_SENT = re.compile(r"^DEBUG Sending fresh GET request for: (?P<url>\S+/)$", re.MULTILINE)
_LOGGED = "uv_client::cached_client=trace"


def say(line: str) -> None:
    """Write ``line`` to standard error."""
    print(line, file=sys.stderr, flush=True)


@dataclass
class UvProcess:
    """uv, ready to run; safe to use from several threads.

    Attributes:
        environment: variables to start from.
        say: called with a line that a person should read.
    """

    environment: Mapping[str, str]
    say: Callable[[str], None] = say
    _settings: dict[str, str] | None = None
    _binary: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _said: set[str] = field(default_factory=set)

    def settings(self) -> dict[str, str]:
        """Return pip's settings; asking pip takes a process, so it is done once."""
        with self._lock:
            if self._settings is None:
                self._settings = pip_settings()
            return self._settings

    def several_indexes(self) -> bool:
        """Say whether there is more than one place where uv looks for packages."""
        return count_indexes(uv_environment(self.settings(), self.environment)) > 1

    def _uv(self) -> str:
        with self._lock:  # what finds it is not made for threads (sysconfig)
            self._binary = self._binary or find_uv()
            return self._binary

    def compile(
        self,
        arguments: Sequence[str],
        output: str,
        directory: Path,
        credentials: Credentials | None = None,
    ) -> None:
        """Write ``output`` in ``directory``; paths are relative to it, so that no text holds a path of this machine.

        When no index can be reached, what uv's cache holds of them is used if it is enough, and that is said aloud.

        Args:
            arguments: after those that every run has.
            output: file name, also of the pins to prefer.
            directory: where the files are; private to the caller.
            credentials: known besides those of the user's configuration.

        Raises:
            ResolverFailure: there is no solution, an index is unreachable, or uv failed otherwise.
            LockError: an index refuses the credentials.
        """
        known = credentials or Credentials(self.settings(), self.environment)
        variables = {**uv_environment(self.settings(), self.environment), **self._trust(directory), "RUST_LOG": _LOGGED}
        command = [self._uv(), "pip", "compile", "--color", "never", "--no-header", "--no-progress"]
        command += ["--python", sys.executable, "--output-file", output]
        command += [*uv_arguments(self.settings(), self.environment), *arguments]
        try:
            self._run(command, directory, variables, known)
        except ResolverFailure as failure:
            if not failure.unreachable or _DISTRUSTED.search(failure.text) or variables.get("UV_OFFLINE"):
                raise
            self._from_cache(command, directory, variables, known, failure)

    def _from_cache(
        self,
        command: Sequence[str],
        directory: Path,
        variables: Mapping[str, str],
        credentials: Credentials,
        failure: ResolverFailure,
    ) -> None:
        try:
            log = self._run(command, directory, {**variables, "UV_OFFLINE": "1"}, credentials)
        except ResolverFailure:
            raise failure from None
        if _unknown(log, count_indexes(variables, web=True), credentials.named.values()):
            raise failure
        self.say_once(
            "warning: a package index could not be reached; uv's cache has what was needed of it, as it was when last "
            f"asked. The reason: {_last_cause(failure.text)}"
        )

    def _run(
        self, command: Sequence[str], directory: Path, variables: Mapping[str, str], credentials: Credentials
    ) -> str:
        """Run uv once; return its log."""
        result = subprocess.run(
            command, cwd=directory, env=variables, capture_output=True, text=True, errors="replace", check=False
        )
        refused = _refusals(result.stderr, credentials, pages=result.returncode == 0)
        if refused:
            raise LockError(_refused_text(refused))
        if result.returncode != 0:
            text = _TRACE.sub("", result.stderr).strip() or result.stdout.strip() or _end(result.returncode)
            text = credentials.hide(redact(text))
            unreachable = bool(_UNREACHABLE.search(text) or _DISTRUSTED.search(text))
            raise ResolverFailure(_with_hint(text, result.stderr), unreachable=unreachable)
        for text in _YANKED.findall(result.stderr):
            self.say_once(f"warning: {text}; it is kept because it was locked before, or is required")
        return result.stderr

    def _trust(self, directory: Path) -> dict[str, str]:
        bundle = bundle_certificates(certificates(self.settings(), self.environment), directory)
        return {"SSL_CERT_FILE": str(bundle)} if bundle else {}

    def say_once(self, line: str) -> None:
        """Say ``line`` unless it has been said."""
        with self._lock:
            new = line not in self._said
            self._said.add(line)
        if new:
            self.say(line)


def find_uv() -> str:
    """Return the path of uv: of the installed package ``uv``, else from PATH.

    Raises:
        LockError: there is none.
    """
    try:
        from uv import find_uv_bin

        return os.fspath(find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if not found:
        raise LockError("uv was not found, neither as the Python package `uv` nor on PATH: `pip install uv`")
    return found


def _refusals(log: str, credentials: Credentials, *, pages: bool) -> dict[str, int]:
    """Return the status by host of the indexes in uv's ``log`` that refuse to answer whoever asks.

    uv takes refusals for packages that do not exist, and goes on with the next index, where anybody may have put a
    package of that name. 403 is also what buckets say about files that do not exist: it counts where credentials are
    known and nothing was answered. ``pages``: look at the answers about packages only, not at those about files.
    """
    statuses: dict[str, set[int]] = {}
    for match in _STATUS.finditer(log):
        place = urlsplit(match["url"]).netloc.rpartition("@")[2]
        if not pages or match["url"].endswith("/"):
            statuses.setdefault(place, set()).add(int(match["status"]))
    refused = {}
    for place, seen in statuses.items():
        counted = seen - credentials.tolerated(place)
        if 401 in counted:
            refused[place] = 401
        elif 403 in counted and min(seen) >= 400 and credentials.known(place):
            refused[place] = 403
    return refused


def _unknown(log: str, indexes: int, exclusive: Collection[str]) -> bool:
    """Say whether uv, without network, lacked a package's page of all ``indexes``, or of an ``exclusive`` one: then
    what it found elsewhere is not the answer. That some index has no such package is not kept in uv's cache."""
    lacking: dict[str, set[str]] = {}
    for match in _SENT.finditer(log):
        index, _, name = match["url"].rstrip("/").rpartition("/")
        lacking.setdefault(name, set()).add(index)
    alone = {url.rstrip("/") for url in exclusive}
    return any(len(asked) >= indexes or asked & alone for asked in lacking.values())


def _end(code: int) -> str:
    name = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"uv ended with {name}, and said nothing"


def _refused_text(refused: Mapping[str, int]) -> str:
    places = ", ".join(f"{place} (HTTP {status})" for place, status in sorted(refused.items()))
    return (
        f"a package index refuses the credentials, or wants some: {places}; nothing was locked\n"
        "They come from netrc, from keyring (pip's setting `keyring-provider`, UV_KEYRING_PROVIDER), from its URL in "
        "your pip or uv configuration, or from UV_INDEX_<NAME>_USERNAME and UV_INDEX_<NAME>_PASSWORD. Check that they "
        "have not expired; `python3 -m pip config list` shows the URLs. If the index answers so about packages that it "
        "does not have, say so in uv.toml: `ignore-error-codes` of its [[index]]."
    )


def _with_hint(text: str, log: str) -> str:
    hints = [
        hint for pattern, hint in _CERTIFICATE_HINTS.items() if _DISTRUSTED.search(text) and re.search(pattern, text)
    ]
    forbidden = {urlsplit(match["url"]).netloc for match in _STATUS.finditer(log) if match["status"] == "403"}
    if forbidden and "not found in the package registry" in text:
        hints.append(f"{', '.join(sorted(forbidden))} answered 403 Forbidden: are credentials missing?")
    return "\n".join([text, *(f"hint: {hint}" for hint in hints)])


def _last_cause(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "uv said nothing"
