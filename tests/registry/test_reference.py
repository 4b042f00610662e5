"""What names a manifest, and what does not."""

from __future__ import annotations

import pytest

from mfbazel.registry import Kind, Reference, RegistryError, parse_reference
from mfbazel.registry.reference import is_loopback

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("r.example/ml/x:v1", Reference("r.example", "ml/x", "v1")),
        (f"r.example:5000/x@{DIGEST}", Reference("r.example:5000", "x", None, DIGEST)),
        (f"oci://localhost/a/b/c:t@{DIGEST}", Reference("localhost", "a/b/c", "t", DIGEST)),
        ("[::1]:5000/ml/x", Reference("[::1]:5000", "ml/x")),
    ],
)
def test_a_reference_is_split_and_written_again(text: str, expected: Reference) -> None:
    assert parse_reference(text) == expected
    assert str(expected) == text.removeprefix("oci://")


def test_the_digest_counts_before_the_tag_and_no_tag_means_latest() -> None:
    assert parse_reference(f"r.example/x:t@{DIGEST}").name == DIGEST
    assert parse_reference("r.example/x:t").name == "t"
    assert parse_reference("r.example/x").name == "latest"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("python:3.14", "is no host"),
        ("library/python", "it has no host"),
        ("", "is no host"),
        ("r.example/", "the path after the host is missing"),
        ("r.example:99999/x", "99999 is no port"),
        ("r.example/ML/x", "the component 'ML' is not allowed"),
        ("r.example/a//b", "the component '' is not allowed"),
        ("r.example/x:", "'' is no tag"),
        ("r.example/x:a/b", "'a/b' is no tag"),
        ("r.example/x@sha256:abc", "what follows '@' is no sha256 digest"),
        ("r.example/" + "a" * 250, "more than 255 characters"),
        ("https://r.example/x", "is no host"),
    ],
)
def test_what_is_no_reference_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(RegistryError) as caught:
        parse_reference(text)
    assert caught.value.problem.kind is Kind.REFERENCE
    assert why in str(caught.value)
    assert "host[:port]/path@sha256:…" in str(caught.value)


@pytest.mark.parametrize(
    "text", ["me:s3cret@", "me:s3cret@r.example/ml/x", "oci://me:s3cret@r.example/ml/x", "https://a:s3cret@r/x"]
)
def test_a_password_in_a_reference_is_not_repeated(text: str) -> None:
    with pytest.raises(RegistryError) as caught:
        parse_reference(text)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("registry.localhost", True),
        ("127.1.2.3:80", True),
        ("[::1]:80", True),
        ("0.0.0.0:80", False),
        ("localhost.example", False),
        ("10.0.0.1", False),
    ],
)
def test_only_what_cannot_be_another_machine_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
