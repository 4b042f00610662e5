"""Where a distribution came from that no index has: ``direct_url.json`` (PyPA specification, "Direct URL data").

Wheels that were built of a commit have one. For wheels of an index the specification forbids it, and the path of a
local file would be one of the machine that built the image.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from mfbazel.layer.errors import LayerError


def direct_url(wheel: str, text: str) -> bytes:
    """Return the file's content, sorted keys and one line, as other installers write it.

    Args:
        wheel: file name, for errors.
        text: JSON with ``url``, ``vcs_info`` (``vcs``, ``commit_id``, perhaps ``requested_revision``), perhaps
            ``subdirectory``.

    Raises:
        LayerError: it is not that, or names a place of this machine or a password.
    """
    try:
        fields: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LayerError(f"direct_url.json of {wheel} is not JSON: {error}") from error
    why = _wrong(fields)
    if why:
        raise LayerError(f"direct_url.json of {wheel} cannot be installed: {why}")
    return json.dumps(fields, sort_keys=True).encode()


def _wrong(fields: Any) -> str | None:
    if not isinstance(fields, dict) or not isinstance(fields.get("url"), str):
        return "an object with a url is expected"
    info = fields.get("vcs_info")
    if not isinstance(info, dict) or not all(isinstance(info.get(key), str) for key in ("vcs", "commit_id")):
        return "vcs_info with vcs and commit_id is expected"
    try:
        url = urlsplit(fields["url"])
    except ValueError as error:
        return f"its url is none: {error}"
    # The user of ssh is no secret; that of https may be a token.
    if url.password is not None or ("@" in url.netloc and url.scheme.removeprefix("git+") in ("http", "https")):
        return "its url has a password or token, which everybody who has the image could read"
    if url.scheme in ("", "file"):
        return f"{fields['url']} is a place of one machine"
    return None
