"""Finding the credentials for a registry where docker and podman keep them.

The files are docker's ``config.json`` and podman's ``auth.json`` (``containers-auth.json(5)``); helpers speak docker's
credential-helper protocol, on standard input and output only. Nothing here prints or raises a secret.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mfbazel.registry.errors import Failure, Kind
from mfbazel.registry.redaction import quote

_HELPER = re.compile(r"[A-Za-z0-9._-]+")
_HELPER_SECONDS = 30.0  # a helper may ask a cloud's metadata service
_NOT_FOUND = "credentials not found in native keychain"  # the protocol's words for "none"
_IDENTITY_TOKEN_USER = "<token>"  # the protocol's user name for an identity token
DOCKER_HUB = "docker.io"
_DOCKER_HUB_KEYS = ("index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True)
class Credentials:
    """What a user shows a registry: a name and password, an identity token, or a bearer token; secrets stay out of
    ``repr``.

    Attributes:
        username: the user's name; empty for tokens.
        password: the password, or an access token in its place.
        identity_token: an OAuth 2 refresh token for the token service.
        registry_token: a bearer token that is used as it is.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str | None:
        """The value of an ``Authorization: Basic`` header (RFC 7617), or ``None`` without name and password."""
        if not (self.username and self.password):
            return None
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def find_credentials(
    host: str,
    path: str = "",
    environ: Mapping[str, str] | None = None,
    seconds: float = _HELPER_SECONDS,
    answers: dict[str, Credentials | None] | None = None,
) -> Credentials | None:
    """Return the credentials for the repository ``path`` of the registry ``host``, ``None`` when there are none.

    Files are asked in crane's order: docker's (``$DOCKER_CONFIG``, else ``~/.docker``), then podman's
    (``$REGISTRY_AUTH_FILE``, ``$XDG_RUNTIME_DIR/containers/auth.json``, ``~/.config/containers/auth.json``). The first
    that knows the registry counts. In a file a helper of the registry comes first, then the ``auths`` (those of a
    longer path first, as podman has them), then the ``credsStore``.

    Args:
        host: the registry, with its port.
        path: the repository, for credentials of a part of a registry.
        environ: stands in for the process's environment.
        seconds: how long a helper may take.
        answers: what helpers, by name, said of this host; one that is in it is not asked, and others are entered. What
            helpers keep does not depend on ``path``.

    Raises:
        Failure: a file is damaged, or a helper is missing or fails.
    """
    env = os.environ if environ is None else environ
    said = {} if answers is None else answers

    def ask(name: Any) -> Credentials | None:
        if str(name) not in said:
            said[str(name)] = _ask_helper(name, host, env, seconds)
        return said[str(name)]

    for file in _files(env):
        if file.is_file() and (found := _in_file(file, host, path, ask)):
            return found
    return None


def _files(env: Mapping[str, str]) -> Iterator[Path]:
    """Yield where credentials may be, whether there are files or not."""
    home = Path(env.get("HOME") or Path.home())
    yield Path(env.get("DOCKER_CONFIG") or home / ".docker") / "config.json"
    if named := env.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
    if runtime := env.get("XDG_RUNTIME_DIR"):
        yield Path(runtime, "containers", "auth.json")
    yield Path(env.get("XDG_CONFIG_HOME") or home / ".config", "containers", "auth.json")


def _in_file(file: Path, host: str, path: str, ask: Callable[[Any], Credentials | None]) -> Credentials | None:
    content = _read(file)
    helpers = {_key(key): name for key, name in _mapping(file, content, "credHelpers").items()}
    auths = {_key(key): (key, entry) for key, entry in _mapping(file, content, "auths").items()}
    for key in _hosts(host):
        if name := helpers.get(key):
            found = ask(name)
            if found:
                return found
    for key in _keys(host, path):
        if key in auths and (found := _of_entry(file, *auths[key])):
            return found
    store = content.get("credsStore")
    return ask(store) if store else None


def _read(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise Failure(Kind.SETTINGS, f"{file}: {error.strerror}") from None
    except ValueError:  # its text would quote the file
        raise Failure(Kind.SETTINGS, f"{file} is not JSON") from None
    if not isinstance(content, dict):
        raise Failure(Kind.SETTINGS, f"{file} is not a JSON object")
    return content


def _mapping(file: Path, content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = content.get(name) or {}
    if not isinstance(value, dict):
        raise Failure(Kind.SETTINGS, f"{file}: `{name}` is not an object")
    return value


def _key(key: str) -> str:
    """Return a key of ``auths`` as podman writes it: docker's have a scheme and a version of the API."""
    return re.sub(r"/v[12]$", "", re.sub(r"^https?://", "", key).rstrip("/"))


def _hosts(host: str) -> tuple[str, ...]:
    return (host, *_DOCKER_HUB_KEYS) if host == DOCKER_HUB else (host,)


def _keys(host: str, path: str) -> Iterator[str]:
    """Yield what may name a repository in ``auths``, the longest first."""
    for name in _hosts(host):
        parts = path.split("/") if path else []
        for length in range(len(parts), -1, -1):
            yield "/".join([name, *parts[:length]])


def _of_entry(file: Path, key: str, entry: Any) -> Credentials | None:
    """Return the credentials of an entry of ``auths``; ``None`` for an empty one, which only says who keeps them."""
    if not isinstance(entry, dict):
        raise Failure(Kind.SETTINGS, f"{file}: the entry {quote(key)} of `auths` is not an object")
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if encoded := entry.get("auth"):
        try:
            username, _, password = base64.b64decode(str(encoded), validate=True).decode().partition(":")
        except ValueError:
            raise Failure(Kind.SETTINGS, f"{file}: `auth` of {quote(key)} is not base64 of name:password") from None
    found = Credentials(
        username,
        password.rstrip("\0"),
        str(entry.get("identitytoken") or ""),
        str(entry.get("registrytoken") or ""),
    )
    return found if found != Credentials() else None


def _ask_helper(name: Any, host: str, env: Mapping[str, str], seconds: float) -> Credentials | None:
    """Ask ``docker-credential-<name>`` for the credentials of ``host``."""
    if not isinstance(name, str) or not _HELPER.fullmatch(name):
        raise Failure(Kind.SETTINGS, f"{name!r} is no name of a credential helper")
    program = f"docker-credential-{name}"
    server = "https://index.docker.io/v1/" if host == DOCKER_HUB else host
    try:
        done = subprocess.run(
            [program, "get"],
            input=server.encode(),
            capture_output=True,
            timeout=seconds,
            check=False,
            env=dict(env),
        )
    except OSError as error:
        raise Failure(Kind.SETTINGS, f"the credential helper {program} cannot be started: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise Failure(Kind.SETTINGS, f"the credential helper {program} did not answer within {seconds:.0f} s") from None
    if done.returncode:
        said = (done.stdout + b" " + done.stderr).decode(errors="replace")
        if _NOT_FOUND in said:
            return None
        raise Failure(Kind.SETTINGS, f"the credential helper {program} failed ({done.returncode}): {quote(said)}")
    return _of_helper(program, done.stdout)


def _of_helper(program: str, answer: bytes) -> Credentials | None:
    """Read the answer of a helper, which is JSON with ``Username`` and ``Secret``."""
    try:
        content = json.loads(answer)
        username, secret = str(content["Username"]), str(content["Secret"])
    except (ValueError, KeyError, TypeError):  # its text would quote the answer
        raise Failure(Kind.SETTINGS, f"the credential helper {program} does not answer with JSON") from None
    if not secret:
        return None
    return Credentials(identity_token=secret) if username == _IDENTITY_TOKEN_USER else Credentials(username, secret)
