"""Listing what refers to a manifest, where the registry keeps that list (OCI distribution-spec 1.1)."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urljoin

from mfbazel.registry.client import INDEX, Client
from mfbazel.registry.errors import Failure, Kind
from mfbazel.registry.transport import Answer

_UNKNOWN = (400, 404, 405)  # what registries answer that do not know the address
_MOST_PAGES = 100
_NEXT = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')


def get_referrers(client: Client, path: str, digest: str) -> list[dict[str, Any]] | None:
    """Return the descriptors of the manifests that refer to ``digest``; ``None`` where the registry lists none.

    That is the referrers API ("Listing Referrers"); registries without it answer 404.

    Raises:
        RegistryError: it did not answer, refused, or answers with something else.
    """
    with client.operation(path, digest, "listing what refers to it") as about:
        answer = about.call("GET", f"referrers/{digest}", {"Accept": INDEX})
        if answer.status in _UNKNOWN:
            return None
        found = _descriptors(about.expect(answer, 200))
        for _ in range(_MOST_PAGES):
            following = _NEXT.search(answer.headers.get("Link", ""))  # RFC 8288
            if not following:
                return found
            answer = about.send("GET", urljoin(answer.url, following[1]), {"Accept": INDEX})
            found += _descriptors(about.expect(answer, 200))
        raise Failure(Kind.MALFORMED, f"it lists more than {_MOST_PAGES} pages of referrers")


def _descriptors(answer: Answer) -> list[dict[str, Any]]:
    """Return the entries of an index."""
    try:
        entries = json.loads(answer.body)["manifests"]
    except (ValueError, LookupError, TypeError):
        entries = None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Failure(Kind.MALFORMED, "it lists referrers, but gives no image index")
    return entries
