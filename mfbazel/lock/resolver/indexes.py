"""Which indexes to ask: pip's configuration, translated for uv where the user has not configured uv itself.

pip reads files and ``PIP_*`` variables (``python -m pip config list`` shows both); uv reads its own. A person who has
told pip once where packages come from should not have to say it again. Everything travels in environment variables,
so that credentials stand on no command line.
"""

from __future__ import annotations

import netrc
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from mfbazel.wheel.pip_environment import (
    certificates,
    credentials_of,
    read_toml,
    uv_configuration_files,
    uv_indexes,
    with_credentials,
)

_UV_SETTINGS = {
    "index-url": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "extra-index-url": ("UV_INDEX", "UV_EXTRA_INDEX_URL"),
    "find-links": ("UV_FIND_LINKS",),
    "index-strategy": ("UV_INDEX_STRATEGY",),
}
"""pip's setting, and uv's variables for it: the first is the one that is set here."""
_SYSTEM_CERTIFICATES = ("UV_SYSTEM_CERTS", "UV_NATIVE_TLS", "SSL_CERT_FILE", "SSL_CERT_DIR")


def configured_uv_settings(environment: Mapping[str, str]) -> set[str]:
    """Return which of pip's settings the user has configured for uv itself, by variables or in a ``uv.toml``."""
    found = {setting for setting, variables in _UV_SETTINGS.items() if any(environment.get(name) for name in variables)}
    for path in uv_configuration_files(environment):
        found |= _settings_in(path)
    return found


def _settings_in(path: Path) -> set[str]:
    table = read_toml(path)
    keys = {*table, *table.get("pip", {})}
    found = {setting for setting in (*_UV_SETTINGS, "no-index") if setting in keys}
    indexes = _indexes_in(path)
    if indexes:
        found.add("extra-index-url")
    if any(index.get("default") for index in indexes):
        found.add("index-url")
    return found


def _indexes_in(path: Path) -> list[dict[str, Any]]:
    indexes = read_toml(path).get("index", [])
    return [index for index in indexes if isinstance(index, dict)] if isinstance(indexes, list) else []


def uv_environment(settings: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return ``environment`` for uv, with pip's ``settings`` added where uv is not configured by itself.

    The index strategy becomes ``unsafe-best-match``, which is what pip does with several indexes.
    """
    taken = configured_uv_settings(environment)
    added = {
        "UV_DEFAULT_INDEX": _location(settings.get("index-url", "")),
        "UV_INDEX": " ".join(map(_location, settings.get("extra-index-url", "").split())),
        "UV_FIND_LINKS": ",".join(map(_location, settings.get("find-links", "").split())),
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    result = dict(environment)
    for setting, (variable, *_others) in _UV_SETTINGS.items():
        if setting not in taken and added[variable]:
            result[variable] = added[variable]
    result.update(_connection(settings, environment))
    if not any(result.get(name) for name in _SYSTEM_CERTIFICATES) and _has_system_certificates():
        # As pip does, which trusts what the system trusts.
        result["UV_SYSTEM_CERTS"] = "true"
    # Which interpreters are on the machine must not matter, and nothing is built: never look for or download one.
    result["UV_PYTHON_DOWNLOADS"] = "never"
    return result


def uv_arguments(settings: Mapping[str, str], environment: Mapping[str, str]) -> list[str]:
    """Return the options for uv that have no variable: ``--no-index``."""
    wanted = _true(settings.get("no-index", "")) and "no-index" not in configured_uv_settings(environment)
    return ["--no-index"] if wanted else []


def _connection(settings: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return how to reach the indexes: certificates, proxy, hosts, time-outs."""
    proxy = settings.get("proxy", "")
    trusted = certificates(settings, environment)
    wanted = {
        "SSL_CERT_FILE": str(trusted[0]) if trusted else "",
        "SSL_CLIENT_CERT": settings.get("client-cert", ""),
        "UV_INSECURE_HOST": " ".join(settings.get("trusted-host", "").split()),
        "UV_HTTP_TIMEOUT": settings.get("timeout", ""),
        "UV_KEYRING_PROVIDER": "subprocess" if settings.get("keyring-provider") == "subprocess" else "",
        "UV_PRERELEASE": "allow" if _true(settings.get("pre", "")) else "",
        "HTTPS_PROXY": proxy if not environment.get("https_proxy") else "",
        "HTTP_PROXY": proxy if not environment.get("http_proxy") else "",
    }
    return {name: value for name, value in wanted.items() if value and not environment.get(name)}


def _has_system_certificates() -> bool:
    if sys.platform == "darwin":
        return True
    places = ssl.get_default_verify_paths()
    directory = Path(places.capath) if places.capath else None
    return bool(places.cafile) or (directory is not None and any(directory.glob("*.0")))


def count_indexes(variables: Mapping[str, str], *, web: bool = False) -> int:
    """Return how many indexes uv asks with these ``variables``, the public one included where it does; with ``web``,
    only those on the web that have a page per package."""
    indexes = uv_indexes(variables)
    public = not any(index.default for index in indexes)
    if web:
        indexes = [index for index in indexes if not index.flat and index.url.startswith(("http://", "https://"))]
    return public + len(indexes)


def configured_indexes(settings: Mapping[str, str], environment: Mapping[str, str]) -> list[str | None]:
    """Return the indexes and ``find-links`` that are asked, without credentials; ``None`` is the public index."""
    if _true(settings.get("no-index", "")):
        return [_bare(_location(url)) for url in settings.get("find-links", "").split()]
    indexes = uv_indexes(uv_environment(settings, environment))
    public: list[str | None] = [] if any(index.default for index in indexes) else [None]
    return [*public, *(_bare(index.url) for index in indexes)]


def _bare(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


@dataclass
class Credentials:
    """Who the user is to the indexes, as far as pip's ``settings`` and the ``environment`` tell.

    Attributes:
        settings: of pip (:func:`pip_settings`).
        environment: variables.
        named: URLs by name of indexes that are not part of the user's configuration.
        hidden: texts that are not shown, by what is shown instead.
    """

    settings: Mapping[str, str]
    environment: Mapping[str, str]
    named: Mapping[str, str] = field(default_factory=dict)
    hidden: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def _by_place(self) -> dict[str, str]:
        """``user:password``, unquoted, by host and port."""
        found: dict[str, str] = {}
        for name, url in self._indexes():
            parts = urlsplit(url)
            userinfo, _, place = parts.netloc.rpartition("@")
            known = (credentials_of(name, self.environment) if name else "") or unquote(userinfo)
            if known and place not in found:
                bare = urlunsplit(parts._replace(netloc=place))
                found[place] = known if ":" in known else self._from_keyring(known, (bare, place))
        return found

    def _from_keyring(self, user: str, services: Sequence[str]) -> str:
        """Ask the program ``keyring``, where the user wants it asked, as pip and uv do."""
        if "subprocess" not in (self.settings.get("keyring-provider"), self.environment.get("UV_KEYRING_PROVIDER")):
            return user
        for service in services:
            try:
                answer = subprocess.run(
                    ["keyring", "get", service, user], env=self.environment, capture_output=True, text=True, check=False
                )
            except OSError:
                return user
            if answer.returncode == 0 and answer.stdout.strip():
                return f"{user}:{answer.stdout.strip()}"
        return user

    def _indexes(self) -> Iterator[tuple[str, str]]:
        yield from self.named.items()
        for index in uv_indexes(uv_environment(self.settings, self.environment)):
            yield index.name, index.url

    def of(self, place: str) -> str | None:
        """Return ``user:password`` for the host (and port) ``place``; without a colon when only the user is known."""
        return self._by_place.get(place) or _of_netrc(urlsplit(f"//{place}").hostname or "", self.environment)

    def known(self, place: str) -> bool:
        """Say whether the user has any for ``place``."""
        return bool(self.of(place))

    def tolerated(self, place: str) -> set[int]:
        """Return the statuses with which ``place`` means that it has no such package, as uv's configuration says."""
        indexes = (index for path in uv_configuration_files(self.environment) for index in _indexes_in(path))
        return {
            code
            for index in indexes
            if urlsplit(str(index.get("url", ""))).netloc.rpartition("@")[2] == place
            for code in index.get("ignore-error-codes", [])
        }

    def in_url(self, url: str) -> str:
        """Return ``url`` with the credentials for its host, when it has none itself."""
        return with_credentials(url, self.of(urlsplit(url).netloc))

    def hide(self, text: str) -> str:
        """Return ``text`` without what is hidden."""
        for secret, shown in self.hidden.items():
            text = text.replace(secret, shown)
        return text


def _of_netrc(host: str, environment: Mapping[str, str]) -> str | None:
    try:
        entry = netrc.netrc(environment.get("NETRC")).hosts.get(host)
    except (OSError, netrc.NetrcParseError):
        return None
    return f"{entry[0]}:{entry[2]}" if entry else None


def _location(text: str) -> str:
    """Make a relative path of pip's configuration absolute; leave URLs alone."""
    if not text or "://" in text or text.startswith("file:"):
        return text
    path = Path(text).expanduser()
    return str(path if path.is_absolute() else path.resolve())


def _true(text: str) -> bool:
    return text.strip().lower() in ("1", "true", "yes", "on", "y", "t")
