"""Requirements files in pip-tools' format: reading what a resolver wrote, and writing the lock's own.

The format: one ``name==version`` per distribution in the order of names, each followed by indented ``--hash`` options
and a ``# via`` annotation (pip's requirements file format; the annotation is pip-tools' and uv's convention).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from packaging.utils import canonicalize_name

from mfbazel.lock.model import LockedEnvironment, LockedWheel, Pin, Platform
from mfbazel.lock.origin import FILE, LABEL, is_label

_PIN = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==(?P<version>[^\s;\\]+)")
_LOCAL = re.compile(
    r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])? @ file:\S*/[^/\s-]+-(?P<version>[^/\s-]+)-[^/\s]+\.whl"
)
"""How a resolver writes a wheel that it was given by its URL."""

_MADE = re.compile(r"^# (?P<name>[a-z0-9-]+)==(?P<version>\S+) is made by //")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_HASH_LINE = re.compile(r"--hash=sha256:[0-9a-f]{64}( \\)?")
_VIA = re.compile(r"^\s+#\s+(?:via\b)?\s*(.*)$")


@dataclass(frozen=True)
class PinnedLine:
    """What a requirements file says of one distribution."""

    name: str
    version: str
    hashes: tuple[str, ...]


def parse_resolved(text: str) -> dict[str, Pin]:
    """Read pins and annotations of the requirements file ``text`` that uv or pip-tools wrote; keys are
    normalized names."""
    return {name: Pin(name, version, via) for (name, version), via in parse_annotations(text).items()}


def parse_annotations(text: str) -> dict[tuple[str, str], tuple[str, ...]]:
    """Read who asked for each pin of a lock's own requirements file ``text``, by normalized name and version."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    current: tuple[str, str] | None = None
    for line in text.splitlines():
        match = _PIN.match(line) or _LOCAL.match(line) or _MADE.match(line)
        if match:
            current = (canonicalize_name(match["name"]), unquote(match["version"]))
            found[current] = ()
            continue
        via = _VIA.match(line)
        if via and current and via[1]:
            found[current] = (*found[current], *(part.strip() for part in via[1].split(",")))
    return found


def foreign_lines(text: str) -> list[tuple[int, str]]:
    """Return number and content of the lines of a lock's own requirements file ``text`` that say anything else than
    pins, hashes and annotations: what a merge left behind, say."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        content = line.strip()
        if content and not content.startswith("#") and not _PIN.match(line) and not _HASH_LINE.fullmatch(content):
            found.append((number, content))
    return found


def parse_locked(text: str) -> list[PinnedLine]:
    """Read the pins and hashes of a lock's own requirements file ``text``."""
    joined = text.replace("\\\n", " ")
    lines = []
    for line in joined.splitlines():
        match = _PIN.match(line)
        if match:
            lines.append(
                PinnedLine(canonicalize_name(match["name"]), match["version"], tuple(sorted(_HASH.findall(line))))
            )
    return lines


def render(locked: LockedEnvironment, command: str) -> str:
    """Return the requirements file of ``locked``, whose header says that ``command`` makes it again."""
    environment = locked.environment
    lines = [
        "#",
        f"# What the environment '{environment.name}' installs, for Python {environment.python}.",
        "# This file is generated. To update it, run:",
        "#",
        f"#    {command}",
        "#",
    ]
    for name in sorted({name for pins in locked.pins.values() for name in pins}):
        lines += _render_distribution(name, locked)
    return "\n".join(lines) + "\n"


def _render_distribution(name: str, locked: LockedEnvironment) -> list[str]:
    versions: dict[str, list[str]] = {}
    for platform, pins in locked.pins.items():
        if name in pins:
            versions.setdefault(pins[name].version, []).append(platform)
    everywhere = len(versions) == 1 and len(next(iter(versions.values()))) == len(locked.pins)
    lines = []
    for version, platforms in sorted(versions.items()):
        marker = "" if everywhere else f" ; {_marker(platforms)}"
        wheels = [wheel for platform in platforms for wheel in _wheels_of(name, locked.wheels[platform])]
        hashes = sorted({value for wheel in wheels for value in hashes_of(wheel)})
        via = _annotation({via for platform in platforms for via in locked.pins[platform][name].via})
        lines += sorted({f"# {name}{_origin(wheel)}" for wheel in wheels if wheel.source})
        if all(is_label(wheel.sha256) for wheel in wheels):
            lines += via
            continue  # there is no hash, and without one installers would take no other hash either
        lines.append(" \\\n    ".join([f"{name}=={version}{marker}", *(f"--hash=sha256:{value}" for value in hashes)]))
        lines += via
    return lines


def _origin(wheel: LockedWheel) -> str:
    """Say where a wheel comes from that no index has."""
    source = wheel.source
    if source and source.kind == LABEL:
        return f"=={wheel.version} is made by {source}, and has no hash"
    return f": {source} of this workspace" if source and source.kind == FILE else f": built from {source}"


def hashes_of(wheel: LockedWheel) -> tuple[str, ...]:
    """Return the hashes that an installer may meet: of the wheel, and of an sdist that it builds by itself."""
    return (wheel.sha256, wheel.source.sha256) if wheel.source and wheel.source.sha256 else (wheel.sha256,)


def _wheels_of(name: str, wheels: Sequence[LockedWheel]) -> list[LockedWheel]:
    return [wheel for wheel in wheels if wheel.name == name]


def _marker(platforms: Sequence[str]) -> str:
    return " or ".join(f'platform_machine == "{Platform.parse(platform).machine}"' for platform in platforms)


def _annotation(via: set[str]) -> list[str]:
    names = sorted(via)
    if not names:
        return []
    if len(names) == 1:
        return [f"    # via {names[0]}"]
    return ["    # via", *(f"    #   {name}" for name in names)]


def rename_sources(pins: Mapping[str, Pin], sources: Mapping[str, str]) -> dict[str, Pin]:
    """Return ``pins`` with the annotations' file names (``-r wanted.in``, ``--override overrides.in``) replaced by what
    ``sources`` calls them.

    Constraints (``-c …``) are no reason to install anything and are left out.
    """
    renamed = {}
    for name, pin in pins.items():
        via = (
            sources.get(item.removeprefix("-r ").removeprefix("--override "), item)
            for item in pin.via
            if not item.startswith("-c ")
        )
        renamed[name] = Pin(pin.name, pin.version, tuple(sorted(set(via))))
    return renamed
