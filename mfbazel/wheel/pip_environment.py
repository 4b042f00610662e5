"""Which indexes pip asks, and how it reaches them: the user's configuration of pip, of uv, and an index of a policy.

Standard library alone, CPython 3.9 or newer: it is used before anything is installed. Everything travels in environment
variables, so that credentials stand on no command line and in no file.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

_SECTIONS = ("global", "download", ":env:")
_CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_BUNDLE = "certificates.pem"


class UnsetVariableError(Exception):
    """A URL names a variable that is not set."""


class UvIndex(NamedTuple):
    """An index that uv is told to ask; ``default``: instead of the public one; ``flat``: a page or a directory."""

    url: str
    name: str = ""
    default: bool = False
    flat: bool = False


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


def expand_url(url: str, environment: Mapping[str, str]) -> str:
    """Return ``url`` with every ``${NAME}`` replaced by the variable NAME.

    Raises:
        UnsetVariableError: one is not set.
    """

    def value(match: re.Match[str]) -> str:
        found = environment.get(match[1])
        if not found:
            raise UnsetVariableError(f"the variable {match[1]} of {url} is not set: export it where the command runs")
        return found

    return _VARIABLE.sub(value, url)


def with_credentials(url: str, known: str | None) -> str:
    """Return ``url`` with ``known``, ``user:password`` or ``user``, unless it has user information or is no web URL."""
    parts = urlsplit(url)
    if not known or parts.scheme not in ("http", "https") or "@" in parts.netloc:
        return url
    user, colon, password = known.partition(":")
    userinfo = quote(user, safe="") + colon + quote(password, safe="")
    return urlunsplit(parts._replace(netloc=f"{userinfo}@{parts.netloc}"))


def credentials_of(name: str, environment: Mapping[str, str]) -> str:
    """Return ``user:password`` of uv's variables for the index ``name``; ``user``, or nothing."""
    stem = f"UV_INDEX_{re.sub('[^A-Z0-9]', '_', name.upper())}"
    user, password = (environment.get(f"{stem}_{what}", "") for what in ("USERNAME", "PASSWORD"))
    return f"{user}:{password}" if password else user


def certificates(settings: Mapping[str, str], environment: Mapping[str, str]) -> list[Path]:
    """Return the files of certificate authorities that the user trusts, pip's first; each kind of program has its own
    variable for them, and an index is reached when any of them names its authority."""
    own = settings.get("cert", "")
    names = [own, *(name for variable in _CERTIFICATES if Path(name := environment.get(variable, "")).is_file())]
    return list(dict.fromkeys(Path(name).expanduser() for name in names if name))


def bundle_certificates(files: Iterable[Path], directory: Path) -> Path | None:
    """Return a file with the certificates of all ``files``: the only one, or a new one in ``directory``."""
    found = list(files)
    if len(found) < 2 or not found[0].is_file():
        return found[0] if found else None
    bundle = directory / _BUNDLE
    bundle.write_bytes(b"\n".join(path.read_bytes() for path in found))
    return bundle


def uv_configuration_files(environment: Mapping[str, str]) -> list[Path]:
    """Return where uv's configuration of the user and of the machine may lie, the strongest first."""
    explicit = environment.get("UV_CONFIG_FILE")
    if explicit:
        return [Path(explicit)]
    if environment.get("UV_NO_CONFIG"):
        return []
    home = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return [home / "uv" / "uv.toml", Path("/etc/uv/uv.toml")]


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of ``path``; nothing when it cannot be read."""
    try:
        import tomllib
    except ImportError:  # before Python 3.11
        try:
            from pip._vendor import tomli as tomllib  # type: ignore[no-redef]
        except ImportError:
            return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def uv_indexes(environment: Mapping[str, str]) -> list[UvIndex]:
    """Return what uv is told to ask, by variables and configuration files."""
    found = list(_variables_indexes(environment))
    for path in uv_configuration_files(environment):
        found += _file_indexes(read_toml(path), path.parent)
    first = next((index for index in found if index.default), None)
    return [index for index in found if not index.default or index is first]


def _variables_indexes(environment: Mapping[str, str]) -> Iterator[UvIndex]:
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        if environment.get(variable):
            yield _named(environment[variable], default=True)
    for variable in ("UV_INDEX", "UV_EXTRA_INDEX_URL"):
        for word in environment.get(variable, "").split():
            yield _named(word)
    for word in environment.get("UV_FIND_LINKS", "").split(","):
        if word.strip():
            yield UvIndex(word.strip(), flat=True)


def _named(text: str, *, default: bool = False) -> UvIndex:
    """Read uv's ``name=URL`` or ``URL``."""
    match = re.fullmatch(r"(?P<name>[A-Za-z0-9_.-]+)=(?P<url>.+)", text)
    return UvIndex(match["url"], match["name"], default) if match else UvIndex(text, "", default)


def _file_indexes(table: Mapping[str, Any], directory: Path) -> Iterator[UvIndex]:
    pip = table.get("pip")
    for part in (table, pip if isinstance(pip, dict) else {}):
        for entry in _list(part.get("index")):
            if isinstance(entry, dict) and entry.get("url"):
                flat = entry.get("format") == "flat"
                url = _below(str(entry["url"]), directory)
                yield UvIndex(url, str(entry.get("name", "")), bool(entry.get("default")), flat)
        if part.get("index-url"):
            yield UvIndex(_below(str(part["index-url"]), directory), default=True)
        for key, flat in (("extra-index-url", False), ("find-links", True)):
            for url in _list(part.get(key)):
                yield UvIndex(_below(str(url), directory), flat=flat)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _below(location: str, directory: Path) -> str:
    return location if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", location) else str(directory / Path(location).expanduser())


def pip_environment(
    directory: Path,
    python: str = sys.executable,
    index: tuple[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the variables with which pip downloads exactly one file.

    Args:
        directory: for temporary files; exists, and is private to the caller.
        python: the interpreter whose pip runs.
        index: name and URL (with ``${VARIABLE}``) of the policy's index that the file comes from, and from no other;
            ``None``: from those of the user's configuration, pip's or uv's.
        environment: variables to start from (default: those of this process).

    Raises:
        UnsetVariableError: the URL names a variable that is not set.
    """
    base = dict(os.environ if environment is None else environment)
    settings = pip_settings(python)
    result = {**base, "TMPDIR": str(directory), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_COLOR": "1"}
    result["PIP_REQUIRE_VIRTUALENV"] = "0"
    # The lock has decided. Nothing given here would leave the constraints of pip's configuration files.
    result["PIP_CONSTRAINT"] = os.devnull
    result.update(_connection(settings, base))
    bundle = bundle_certificates(certificates(settings, base), directory)
    if bundle:
        for variable in _CERTIFICATES[:2]:  # they would win over pip's own
            result.pop(variable, None)
        result["PIP_CERT"] = str(bundle)
    result.update(_only(index, base, directory) if index else _all_indexes(settings, base))
    return result


def _only(index: tuple[str, str], environment: Mapping[str, str], directory: Path) -> dict[str, str]:
    name, url = index
    where = with_credentials(expand_url(url, environment), credentials_of(name, environment))
    # A variable that is empty would not count: what stands in pip's files has to be replaced by something.
    empty = directory / "no-links"
    empty.mkdir(exist_ok=True)
    return {"PIP_INDEX_URL": where, "PIP_EXTRA_INDEX_URL": where, "PIP_FIND_LINKS": str(empty), "PIP_NO_INDEX": "0"}


def _all_indexes(settings: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return pip's variables for the indexes that uv is told of, added to pip's."""
    indexes = uv_indexes(environment)
    if not indexes:
        return {}
    urls = {index: with_credentials(index.url, credentials_of(index.name, environment)) for index in indexes}
    default = next((urls[index] for index in indexes if index.default), "")
    extra = [urls[index] for index in indexes if not index.flat and not index.default]
    links = [urls[index] for index in indexes if index.flat]
    if default and settings.get("index-url"):
        extra.append(default)
    found = {
        "PIP_INDEX_URL": settings.get("index-url") or default,
        "PIP_EXTRA_INDEX_URL": " ".join([*settings.get("extra-index-url", "").split(), *extra]),
        "PIP_FIND_LINKS": " ".join([*settings.get("find-links", "").split(), *links]),
    }
    return {name: value for name, value in found.items() if value}


def _connection(settings: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return pip's variables for what uv has been told of connections, and pip has not."""
    wanted = {
        "client-cert": environment.get("SSL_CLIENT_CERT", ""),
        "keyring-provider": "subprocess" if environment.get("UV_KEYRING_PROVIDER") == "subprocess" else "",
        "trusted-host": environment.get("UV_INSECURE_HOST", ""),
    }
    return {
        f"PIP_{key.upper().replace('-', '_')}": value
        for key, value in wanted.items()
        if value and not settings.get(key)
    }
