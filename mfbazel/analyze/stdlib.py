"""Which modules are of the standard library, for a given Python and not for the running one.

The lists are those of the package ``stdlib-list``.
"""

from __future__ import annotations

import functools
import re
import sys


def is_stdlib(module: str, python: str) -> bool:
    """Say whether the top-level package of the dotted name ``module`` belongs to the standard library of ``python``.

    Args:
        module: for example ``xml.etree``.
        python: ``X.Y`` or ``X.Y.Z``. For one that is not known yet (or is no version) the newest known list holds.
    """
    return module.partition(".")[0] in stdlib_names(python)


@functools.lru_cache(maxsize=16)
def stdlib_names(python: str) -> frozenset[str]:
    """Return the top-level names of the standard library of ``python`` (see :func:`is_stdlib`)."""
    # Imported here: where Metaflow runs, the analyzer's requirements are used without this package.
    from stdlib_list import short_versions, stdlib_list

    match = re.match(r"\d+\.\d+", python)
    version = match.group() if match else ""
    if version not in short_versions:
        if version == f"{sys.version_info.major}.{sys.version_info.minor}":
            return frozenset(sys.stdlib_module_names)
        version = max(short_versions, key=lambda text: [int(part) for part in text.split(".")])
    return frozenset({"__main__", *(name.partition(".")[0] for name in stdlib_list(version))})
