"""Which kind of registry a host is: as a person says, as a plug-in says, as is known, else any that follows the
distribution specification.

A plug-in is an entry point of the group ``mfbazel.registries`` that is a :class:`RegistryType`, or several of them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from importlib.metadata import EntryPoint, entry_points

from mfbazel.errors import MfbazelError
from mfbazel.registry.known import GENERIC, KNOWN, RegistryType

__all__ = ["GENERIC", "GROUP", "RegistryType", "RegistryTypeError", "known_types", "registry_type"]

GROUP = "mfbazel.registries"
"""The group of entry points of plug-ins."""


class RegistryTypeError(MfbazelError):
    """A plug-in cannot be used, or there is no type of a name."""


def registry_type(host: str, named: Mapping[str, str] | None = None) -> RegistryType:
    """Return the type of the registry ``host``.

    Args:
        host: the registry, with the port if there is one.
        named: names of types by patterns of hosts, which take precedence: ``[registries]`` of ``mfbazel.toml``.

    Raises:
        RegistryTypeError: a plug-in cannot be used, or ``named`` has a name that no type has.
    """
    types = known_types()
    for pattern, name in (named or {}).items():
        if _matches(host, pattern):
            return _by_name(types, name, pattern)
    return next((kind for kind in types if any(_matches(host, pattern) for pattern in kind.hosts)), GENERIC)


@functools.cache
def known_types() -> tuple[RegistryType, ...]:
    """Return all types, those of plug-ins first: of two that fit a host, or have a name, the first one counts.

    Raises:
        RegistryTypeError: a plug-in cannot be used.
    """
    found = sorted(entry_points(group=GROUP), key=lambda point: (_distribution(point), point.name))
    return (*(kind for point in found for kind in _load(point)), *KNOWN)


def _by_name(types: Iterable[RegistryType], name: str, pattern: str) -> RegistryType:
    by_name = {kind.name: kind for kind in reversed(list(types))}
    if name not in by_name:
        raise RegistryTypeError(
            f"mfbazel.toml: [registries]: {pattern!r} is said to be {name!r}; there are {', '.join(sorted(by_name))}. "
            f"A type of your own is an entry point of the group {GROUP}."
        )
    return by_name[name]


def _matches(host: str, pattern: str) -> bool:
    """Compare a host with a pattern; a pattern without a port takes any."""
    bare = host if ":" in pattern else host.rpartition(":")[0] or host
    return fnmatchcase(bare.lower(), pattern.lower())


def _load(point: EntryPoint) -> tuple[RegistryType, ...]:
    """Return the types of a plug-in."""
    try:
        loaded = point.load()
    except Exception as error:  # whatever a plug-in does while it is imported
        raise _unusable(point, f"it cannot be imported: {type(error).__name__}: {error}") from error
    kinds = (loaded,) if isinstance(loaded, RegistryType) else loaded
    if not isinstance(kinds, tuple | list) or not all(isinstance(kind, RegistryType) for kind in kinds):
        raise _unusable(point, f"it is a {type(loaded).__name__}, and neither a RegistryType nor a list of them")
    return tuple(kinds)


def _unusable(point: EntryPoint, reason: str) -> RegistryTypeError:
    return RegistryTypeError(
        f"the plug-in {point.name!r} ({GROUP}, {point.value}) of the distribution {_distribution(point)} cannot be "
        f"used: {reason}. Repair that distribution, or uninstall it."
    )


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
