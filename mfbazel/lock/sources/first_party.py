"""Wheels of this workspace: files that are checked in, and what targets make.

A checked-in file is locked by its hash. What a target makes has other bytes after every edit, so that a lock names its
label, and only what decides resolutions: version, requirements and modules.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.metadata import parse_email
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from mfbazel.lock.errors import LockError
from mfbazel.lock.model import Contents, FirstPartyWheel, LockedWheel
from mfbazel.lock.origin import FILE, LABEL
from mfbazel.lock.wheels.licenses import license_of
from mfbazel.lock.wheels.modules import modules_of
from mfbazel.wheel.fetch import sha256_of


def read_first_party(label: str, kind: str, path: Path) -> FirstPartyWheel:
    """Read the wheel ``path`` of the target or file ``label``.

    Raises:
        LockError: it is no wheel.
    """
    where = f"attribute `wheels`: {label}"
    try:
        name, version, _, _ = parse_wheel_filename(path.name)
        with zipfile.ZipFile(path) as archive:
            (metadata,) = (item for item in archive.namelist() if item.endswith(".dist-info/METADATA"))
            raw, _ = parse_email(archive.read(metadata))
            contents = Contents(modules_of(archive), license_of(archive))
    except InvalidWheelFilename as error:
        raise LockError(f"{where}: {path.name} is not the file name of a wheel: {error}") from error
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise LockError(f"{where}: {path.name} is not a wheel that can be read: {error}") from error
    if canonicalize_name(raw.get("name", "")) != name:
        raise LockError(f"{where}: {path.name} says that it is {raw.get('name')}")
    requires = tuple(raw.get("requires_dist", ()))
    return FirstPartyWheel(
        label, kind, path.absolute(), name, str(version), sha256_of(path), path.stat().st_size, requires, contents
    )


def check_names(wheels: Iterable[FirstPartyWheel]) -> tuple[FirstPartyWheel, ...]:
    """Return ``wheels``, sorted by name.

    Raises:
        LockError: two are of one distribution.
    """
    found: dict[str, FirstPartyWheel] = {}
    for wheel in wheels:
        other = found.setdefault(wheel.name, wheel)
        if other.label != wheel.label:
            raise LockError(f"attribute `wheels`: {other.label} and {wheel.label} are both wheels of {wheel.name}")
    return tuple(found[name] for name in sorted(found))


def differences(locked: LockedWheel, wheels: Iterable[FirstPartyWheel]) -> Iterator[str]:
    """Yield what differs between a ``locked`` wheel and the ``wheels`` of this workspace, in words."""
    now = next((wheel for wheel in wheels if wheel.name == locked.name), None)
    label = locked.source.label if locked.source and locked.source.kind in (FILE, LABEL) else ""
    if now is None and label:
        yield f"{locked.name} is locked as {label}, which is not in the attribute `wheels` any more"
    elif now is not None and now.label != label:
        yield f"{locked.name} is {now.label} (attribute `wheels`), locked is {label or 'a wheel of an index'}"
    elif now is not None and now.kind == FILE and now.sha256 != locked.sha256:
        yield f"{now.label} has the hash {now.sha256}, locked is {locked.sha256}"
    elif now is not None and now.kind == LABEL:
        yield from _changes(locked, now)


def _changes(locked: LockedWheel, now: FirstPartyWheel) -> Iterator[str]:
    then = locked.source.dependencies if locked.source else ()
    pairs: list[tuple[str, object, object]] = [
        ("version", now.version, locked.version),
        ("file", now.file, locked.file),
        ("requirements", _listed(now.dependencies), _listed(then)),
    ]
    if locked.contents:
        pairs += [
            ("modules", _listed(now.contents.modules), _listed(locked.contents.modules)),
            ("license", now.contents.license, locked.contents.license),
        ]
    yield from (f"{now.label}: {what} is {new}, locked is {old}" for what, new, old in pairs if new != old)


def _listed(items: Iterable[str]) -> str:
    return ", ".join(items) or "nothing"
