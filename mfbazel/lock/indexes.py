"""Which indexes to ask: pip's configuration, translated for uv where the user has not configured uv itself.

pip reads files and ``PIP_*`` variables (``python -m pip config list`` shows both); uv reads its own. A person who has
told pip once where packages come from should not have to say it again. Everything travels in environment variables,
so that credentials stand on no command line.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

_SECTIONS = ("global", "download", ":env:")
_UV_SETTINGS = {
    "index-url": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "extra-index-url": ("UV_INDEX", "UV_EXTRA_INDEX_URL"),
    "find-links": ("UV_FIND_LINKS",),
    "index-strategy": ("UV_INDEX_STRATEGY",),
}
"""pip's setting, and uv's variables for it: the first is the one that is set here."""


def pip_settings(python: str = sys.executable) -> dict[str, str]:
    """Return pip's effective settings for ``pip download`` (``index-url`` …), values as pip lists them.

    An interpreter without pip has no settings but those in ``PIP_*`` variables.
    """
    result = subprocess.run(
        [python, "-m", "pip", "config", "list"], capture_output=True, text=True, errors="replace", check=False
    )
    if result.returncode != 0:
        return {_key(name[4:]): value for name, value in os.environ.items() if name.startswith("PIP_") and value}
    return parse_config_list(result.stdout)


def parse_config_list(text: str) -> dict[str, str]:
    """Read the output of ``pip config list``: ``section.key='value'`` per line; the environment wins over files."""
    sections: dict[str, dict[str, str]] = {name: {} for name in _SECTIONS}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        section, dot, key = name.rpartition(".")
        if equals and dot and section in sections:
            sections[section][_key(key)] = _unquote(value)
    merged: dict[str, str] = {}
    for name in _SECTIONS:
        merged.update(sections[name])
    return merged


def _key(name: str) -> str:
    key = name.lower().replace("_", "-")
    return "timeout" if key == "default-timeout" else key


def _unquote(value: str) -> str:
    try:
        return str(ast.literal_eval(value))
    except (ValueError, SyntaxError):
        return value


def configured_uv_settings(environment: Mapping[str, str]) -> set[str]:
    """Return which of pip's settings the user has configured for uv itself, by variables or in a ``uv.toml``."""
    found = {setting for setting, variables in _UV_SETTINGS.items() if any(environment.get(name) for name in variables)}
    for path in _uv_files(environment):
        found |= _settings_in(path)
    return found


def _uv_files(environment: Mapping[str, str]) -> Iterable[Path]:
    explicit = environment.get("UV_CONFIG_FILE")
    if explicit:
        return [Path(explicit)]
    home = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return [home / "uv" / "uv.toml", Path("/etc/uv/uv.toml")]


def _settings_in(path: Path) -> set[str]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return set()
    keys = {*table, *table.get("pip", {})}
    found = {setting for setting in (*_UV_SETTINGS, "no-index") if setting in keys}
    indexes = table.get("index", [])
    if isinstance(indexes, list) and indexes:
        found.add("extra-index-url")
        if any(isinstance(index, dict) and index.get("default") for index in indexes):
            found.add("index-url")
    return found


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
    wanted = {
        "SSL_CERT_FILE": settings.get("cert", ""),
        "SSL_CLIENT_CERT": settings.get("client-cert", ""),
        "UV_INSECURE_HOST": " ".join(settings.get("trusted-host", "").split()),
        "UV_HTTP_TIMEOUT": settings.get("timeout", ""),
        "UV_KEYRING_PROVIDER": "subprocess" if settings.get("keyring-provider") == "subprocess" else "",
        "UV_PRERELEASE": "allow" if _true(settings.get("pre", "")) else "",
        "HTTPS_PROXY": proxy if not environment.get("https_proxy") else "",
        "HTTP_PROXY": proxy if not environment.get("http_proxy") else "",
    }
    return {name: value for name, value in wanted.items() if value and not environment.get(name)}


def _location(text: str) -> str:
    """Make a relative path of pip's configuration absolute; leave URLs alone."""
    if not text or "://" in text or text.startswith("file:"):
        return text
    path = Path(text).expanduser()
    return str(path if path.is_absolute() else path.resolve())


def _true(text: str) -> bool:
    return text.strip().lower() in ("1", "true", "yes", "on", "y", "t")
