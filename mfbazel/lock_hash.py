"""What stands for the packages of an environment of a lock: in images.json, in names of images, in tasks' metadata.

Nothing here needs more than the standard library: the module is also shipped to where Metaflow launches a flow.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

_LENGTH = 16


def environments_hash(environments: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> str:
    """Return 16 hex digits that change with the Python and the wheels of some environments, and with nothing else.

    Args:
        environments: those of a lock (``environments`` in ``flow.json``).
        names: an environment, and those that lie below it in its image.

    Raises:
        KeyError: there is no such environment, or it says nothing of its Python or its wheels.
    """
    content = [{key: environments[name][key] for key in ("python", "wheels")} for name in names]
    text = json.dumps({"environments": content}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]
