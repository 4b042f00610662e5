"""The table ``[signing]`` of a policy: what it may say, and what it refuses."""

from __future__ import annotations

import tomllib

import pytest

from mfbazel.policy import PolicyError, SigningRules, check_signing, parse_signing

RULES = SigningRules(("registry.example.com/prod",), ("cosign",), ("spdx",))


def test_without_a_table_nothing_must_be_signed() -> None:
    assert parse_signing({"allowed": {}}) == SigningRules()
    assert not check_signing(SigningRules(), "the image", "registry.example.com/prod", None, ())


@pytest.mark.parametrize(
    ("repository", "signer", "attached", "count"),
    [
        ("registry.example.com/prod/churn", "cosign", ["spdx", "provenance"], 0),
        ("registry.example.com/prod/churn", None, ["spdx"], 1),
        ("registry.example.com/prod/churn", "notation", ["spdx"], 1),
        ("registry.example.com/prod/churn", "cosign", ["cyclonedx"], 1),
        ("registry.example.com/prod/churn", None, [], 2),
        ("REGISTRY.example.com/prod/churn", None, ["spdx"], 1),
        ("registry.example.com:443/prod/churn", None, ["spdx"], 1),
        ("registry.example.com:8443/prod/churn", None, [], 0),
        ("registry.example.com/dev/churn", None, [], 0),
        ("registry.example.com/production", None, [], 0),
    ],
)
def test_what_is_pushed_below_a_required_location_is_signed(
    repository: str, signer: str | None, attached: list[str], count: int
) -> None:
    assert len(check_signing(RULES, "the image", repository, signer, attached)) == count


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("signing = 1", r"write \[signing\]"),
        ("[signing]\nneeded = []", "unknown key `needed`; there are required, signers, attach"),
        ("[signing]\nrequired = 'x'", "`required` is not a list"),
        ("[signing]\nsigners = ['cosign']", "says nothing without `required`"),
        ("[signing]", "says nothing without `required`"),
        ("[signing]\nrequired = ['r.example.com']\nattach = ['sbom']", "'sbom' is none of spdx, cyclonedx, provenance"),
        ("[signing]\nrequired = ['https://r.example.com']", "write the host and the path"),
    ],
)
def test_a_table_that_says_something_else_is_refused(text: str, words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        parse_signing(tomllib.loads(text))
