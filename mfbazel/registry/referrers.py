"""Listing what refers to a manifest (OCI distribution-spec 1.1, "Listing Referrers").

Registries without the referrers API are served by the specification's "Referrers Tag Schema": an index, tagged
``sha256-<hex>``, that the clients keep.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from mfbazel.registry.client import INDEX, Client
from mfbazel.registry.errors import Failure, Kind, RegistryError
from mfbazel.registry.parsing import join, read_json
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
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        if answer.status in _UNKNOWN or (answer.status == 200 and kind != INDEX):
            return None
        found = _descriptors(about.expect(answer, 200))
        for _ in range(_MOST_PAGES):
            following = _NEXT.search(answer.headers.get("Link", ""))  # RFC 8288
            if not following:
                return found
            answer = about.send("GET", join(answer.url, following[1]), {"Accept": INDEX})
            found += _descriptors(about.expect(answer, 200))
        raise Failure(Kind.MALFORMED, f"it lists more than {_MOST_PAGES} pages of referrers")


def fallback_tag(digest: str) -> str:
    """Return the tag of the list of referrers of ``digest`` in registries without the API."""
    return digest.replace(":", "-")[:128]


def tagged_referrers(client: Client, path: str, digest: str) -> list[dict[str, Any]]:
    """Return the descriptors of the list under the tag; empty where there is none.

    Raises:
        RegistryError: the registry did not answer, or refused.
    """
    try:
        content = read_json(client.get_manifest(path, fallback_tag(digest)).data)
        return [item for item in content.get("manifests", []) if isinstance(item, dict)]
    except RegistryError as error:
        if error.problem.kind is Kind.MISSING:
            return []
        raise
    except (ValueError, AttributeError, TypeError):
        return []  # somebody's tag that is no list


def put_tagged_referrers(client: Client, path: str, digest: str, descriptors: Iterable[Mapping[str, Any]]) -> bool:
    """Enter manifests that refer to ``digest`` into the list under the tag; return whether it changed.

    An entry that says that one of them is of another type is replaced: nobody would find it there.

    The list is read once more just before: another client, a signer for one, may have written it.

    Raises:
        RegistryError: the registry did not answer, or refused.
    """
    listed = tagged_referrers(client, path, digest)
    known = [(entry.get("digest"), entry.get("artifactType")) for entry in listed]
    added = [dict(entry) for entry in descriptors if (entry["digest"], entry.get("artifactType")) not in known]
    if added:
        replaced = {entry["digest"] for entry in added}
        kept = [entry for entry in listed if entry.get("digest") not in replaced]
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*kept, *added]}
        data = json.dumps(index, sort_keys=True, separators=(",", ":")).encode()
        client.put_manifest(path, fallback_tag(digest), data, INDEX)
    return bool(added)


def _descriptors(answer: Answer) -> list[dict[str, Any]]:
    """Return the entries of an index."""
    try:
        entries = read_json(answer.body)["manifests"]
    except (ValueError, LookupError, TypeError):
        entries = None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Failure(Kind.MALFORMED, "it lists referrers, but gives no image index")
    return entries
