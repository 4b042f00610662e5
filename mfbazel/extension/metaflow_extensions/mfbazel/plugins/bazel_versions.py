"""What differs between the releases of Metaflow that the extension works with, in one place.

Nothing here may fail to import under a release that is too old: Metaflow loads every extension's modules whatever the
flow uses.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metaflow.metaflow_version import get_version

from .bazel_errors import UnsupportedMetaflowException

OLDEST = (2, 19, 17)
"""Oldest release that is supported."""
_FIRST_WITH_USER_CONTENT = (2, 19, 23)

_beside_the_flow: dict[str, Path] = {}


def metaflow_version() -> tuple[int, ...]:
    """Return major, minor and patch of the Metaflow that runs; nothing where it does not say."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", get_version())
    return tuple(map(int, found.groups())) if found else ()


def require_supported() -> None:
    """Refuse a Metaflow that lacks what the environment ``bazel`` needs.

    Raises:
        UnsupportedMetaflowException: it is older than :data:`OLDEST`.
    """
    version = metaflow_version()
    if version and version < OLDEST:
        said, oldest = (".".join(map(str, numbers)) for numbers in (version, OLDEST))
        raise UnsupportedMetaflowException(
            f"--environment=bazel needs Metaflow {oldest} or newer, and this is {said}. Under Bazel, give the flow's "
            f'target `metaflow = "metaflow>={oldest}"` and lock it anew; elsewhere run `pip install '
            f"'metaflow>={oldest}'`."
        )


def packaged(files: Mapping[str, Path]) -> Iterator[tuple[str, str, Any]]:
    """Yield ``files``, by their paths beside the flow, as Metaflow's ``add_to_package`` wants them.

    Before 2.19.23 Metaflow lets nobody add files beside the flow: they are added to those that it finds there itself.
    """
    if metaflow_version() < _FIRST_WITH_USER_CONTENT:
        _beside_the_flow.update(files)
        _walk_with_others()
        return
    from metaflow.packaging_sys import ContentType

    for arcname, path in sorted(files.items()):
        yield str(path), arcname, ContentType.USER_CONTENT


def allow_in_spin(*names: str) -> None:
    """Let ``spin`` keep step decorators that it would leave out: Metaflow's list has those of its own alone."""
    from metaflow.metaflow_config import SPIN_ALLOWED_DECORATORS

    SPIN_ALLOWED_DECORATORS.extend(name for name in names if name not in SPIN_ALLOWED_DECORATORS)


def is_in_use(deco: Any) -> bool:
    """Say whether Metaflow initialised the remote step decorator ``deco``: for ``spin`` it leaves them out."""
    return hasattr(deco, "flow_datastore")


def _walk_with_others() -> None:
    """Have the code package hold :data:`_beside_the_flow` too, and all that a hidden directory above the flow holds.

    Before 2.19.20 Metaflow leaves out what lies anywhere below a hidden directory: where Bazel keeps its outputs in
    ``~/.cache``, the flow itself.
    """
    from metaflow import package
    from metaflow.packaging_sys import utils

    def walk(root: str, **options: Any) -> Iterator[tuple[str, str]]:
        top, found = root.rstrip(os.sep), set()
        for path, arcname in utils.walk(root, exclude_hidden=False, **options):
            if "/." not in os.path.dirname(path)[len(top) :]:  # noqa: PTH120 - pathlib would drop what it compares
                found.add(arcname)
                yield path, arcname
        yield from ((str(path), arcname) for arcname, path in sorted(_beside_the_flow.items()) if arcname not in found)

    package.walk = walk
