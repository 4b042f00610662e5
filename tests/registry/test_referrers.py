"""Lists of referrers, and blobs in pieces, as registries give them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mfbazel.registry import Client, Kind, RegistryError
from mfbazel.registry.client import INDEX
from mfbazel.registry.referrers import get_referrers
from tests.registry.gate import Asked, Gate, Reply, gate_before_a_registry, without_credentials

LISTED = {"Content-Type": INDEX}
DIGEST = f"sha256:{'0' * 64}"


@pytest.fixture(autouse=True)
def nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_credentials(tmp_path, monkeypatch)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with gate_before_a_registry(tmp_path / "disk") as made:
        yield made


def _index(*digests: str) -> bytes:
    manifests = [{"digest": digest} for digest in digests]
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).encode()


def test_a_registry_without_the_api_lists_nothing(gate: Gate) -> None:
    assert get_referrers(Client(gate.host), "ml/x", DIGEST) is None


def test_a_page_that_is_no_index_lists_nothing(gate: Gate) -> None:
    gate.rule = lambda asked: (
        Reply(200, b"<html>", {"Content-Type": "text/html"}) if "/referrers/" in asked.path else None
    )
    assert get_referrers(Client(gate.host), "ml/x", DIGEST) is None


def test_pages_are_followed(gate: Gate) -> None:
    def pages(asked: Asked) -> Reply | None:
        if asked.path.endswith(f"/v2/ml/x/referrers/{DIGEST}"):
            return Reply(200, _index("a"), {**LISTED, "Link": f'</v2/ml/x/referrers/{DIGEST}?last=a>; rel="next"'})
        return Reply(200, _index("b"), LISTED) if asked.path.endswith("?last=a") else None

    gate.rule = pages
    listed = get_referrers(Client(gate.host), "ml/x", DIGEST)
    assert listed is not None
    assert [item["digest"] for item in listed] == ["a", "b"]


def test_pages_without_an_end_are_given_up(gate: Gate) -> None:
    gate.rule = lambda asked: (
        Reply(200, _index("a"), {**LISTED, "Link": '<?more>; rel="next"'}) if "/referrers/" in asked.path else None
    )
    with pytest.raises(RegistryError, match="more than 100 pages"):
        get_referrers(Client(gate.host), "ml/x", DIGEST)


@pytest.mark.parametrize(("status", "body", "kind"), [(200, b"<html>", Kind.MALFORMED), (403, b"", Kind.DENIED)])
def test_what_is_no_list_is_an_error(gate: Gate, status: int, body: bytes, kind: Kind) -> None:
    gate.rule = lambda asked: Reply(status, body, LISTED) if "/referrers/" in asked.path else None
    with pytest.raises(RegistryError) as caught:
        get_referrers(Client(gate.host), "ml/x", DIGEST)
    assert caught.value.problem.kind is kind
