"""The options of an image's configuration, with the meaning that they have in rules_oci's ``oci_image``."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from mfbazel.image.errors import ImageError
from mfbazel.image.layout import Json

EPOCH = "1970-01-01T00:00:00Z"
"""Time of creation where none is given: images of the same content are the same image."""

_VARIABLE = re.compile(r"\$(?:\{([a-zA-Z0-9_]+)\}|([a-zA-Z0-9_]+))")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_PORT = re.compile(r"\d{1,5}(/(tcp|udp|sctp))?")


@dataclass
class Options:
    """What is set on top of the base's configuration.

    Attributes:
        env: ``(name, value)`` in order; ``$NAME`` and ``${NAME}`` in a value expand from the base's and earlier ones.
        labels, annotations: merged over the base's.
        entrypoint: replaces the base's, and clears its ``cmd``. ``None`` leaves both.
        cmd: replaces the base's. ``None`` leaves it.
        user, workdir, created: replace the base's where given. ``created`` is RFC 3339.
        exposed_ports, volumes: added to the base's.
    """

    env: list[tuple[str, str]] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    user: str | None = None
    workdir: str | None = None
    exposed_ports: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    created: str | None = None


def apply(options: Options, base: Json) -> Json:
    """Return the configuration ``base`` with ``options`` applied; ``base`` itself stays as it is.

    Raises:
        ImageError: a port or the time of creation is malformed.
    """
    result = copy.deepcopy(base)
    config: Json = result.get("config") or {}
    result["config"] = config
    if options.created is not None:
        result["created"] = _time(options.created)
    if options.env:
        config["Env"] = _environment(config.get("Env") or [], options.env)
    if options.labels:
        config["Labels"] = {**(config.get("Labels") or {}), **options.labels}
    if options.entrypoint is not None:
        config["Entrypoint"] = options.entrypoint
        config.pop("Cmd", None)
    if options.cmd is not None:
        config["Cmd"] = options.cmd
    for key, value in (("User", options.user), ("WorkingDir", options.workdir)):
        if value:
            config[key] = value
    for port in options.exposed_ports:
        if not _PORT.fullmatch(port):
            raise ImageError(f"exposed port {port!r} is not of the form 8080, 8080/tcp or 8080/udp")
    for key, names in (("ExposedPorts", options.exposed_ports), ("Volumes", options.volumes)):
        if names:
            config[key] = {**(config.get(key) or {}), **{name: {} for name in names}}
    return result


def _environment(base: list[str], added: Iterable[tuple[str, str]]) -> list[str]:
    values = dict(entry.partition("=")[::2] for entry in base)
    for name, value in added:
        values[name] = _VARIABLE.sub(lambda match: values.get(match[1] or match[2], ""), value)
    return [f"{name}={value}" for name, value in values.items()]


def _time(text: str) -> str:
    value = text.strip()
    if not _TIME.fullmatch(value):
        raise ImageError(f"created: {value!r} is not a time as in RFC 3339, for example {EPOCH}")
    return value


def parse_pairs(lines: Iterable[str], where: str) -> list[tuple[str, str]]:
    """Return ``KEY=VALUE`` lines as pairs; empty lines are skipped.

    Raises:
        ImageError: a line has no ``=``, or nothing before it; ``where`` names the file or option.
    """
    pairs = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        key, separator, value = line.partition("=")
        if not separator or not key:
            raise ImageError(f"{where}, line {number}: KEY=VALUE is expected, not {line!r}")
        pairs.append((key, value))
    return pairs


def parse_words(lines: Iterable[str]) -> list[str]:
    """Return the arguments of a command: one per line, ``%5Cn`` standing for a newline, as rules_oci writes them."""
    return [line.replace("%5Cn", "\n") for line in lines if line]


def parse_names(lines: Iterable[str]) -> list[str]:
    """Return ports or volumes: separated by commas or newlines."""
    return [name.strip() for line in lines for name in line.split(",") if name.strip()]
