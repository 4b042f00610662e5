"""What of a lock (``flow.json``) images are named and described by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfbazel.image.errors import ImageError
from mfbazel.image.layout import Json
from mfbazel.lock_hash import environments_hash


@dataclass(frozen=True)
class Lock:
    """A lock.

    Attributes:
        path: of its ``flow.json``.
        document: the content.
    """

    path: Path
    document: Json

    @property
    def flow(self) -> Json:
        """The flow.

        Raises:
            ImageError: it is a lock without a flow.
        """
        if self.document["flow"] is None:
            raise ImageError(f"{self.path} is a lock without a flow: it has no steps")
        flow: Json = self.document["flow"]
        return flow

    def environments_hash(self, names: Sequence[str]) -> str:
        """Return 16 hex digits that change with the Python and the wheels of the environments, and with nothing else.

        Args:
            names: an environment, and those that lie below it in its image.

        Raises:
            ImageError: the lock has no such environment.
        """
        environments = self.document["environments"]
        for name in names:
            if name not in environments:
                raise ImageError(f"{self.path} has no environment {name!r}; it has {', '.join(sorted(environments))}")
        return environments_hash(environments, names)


def read_lock(path: Path) -> Lock:
    """Read the ``flow.json`` of a lock.

    Raises:
        ImageError: it cannot be read, is of another schema, or is not such a file.
    """
    try:
        document: Any = json.loads(path.read_bytes())
        if document["schema"] != 1:
            raise ImageError(f"{path}: schema {document['schema']} is not understood, 1 is. Write the lock again.")
        for step in document["flow"]["steps"] if document["flow"] is not None else ():
            str(step["name"]), str(step["environment"]), str(step["requirements_sha256"])
        for environment in document["environments"].values():
            str(environment["python"]), dict(environment["wheels"])
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ImageError(f"{path} is not the flow.json of a lock ({error!r}). Write the lock again.") from error
    return Lock(path, document)
