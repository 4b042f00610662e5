"""What ``mfbazel.toml`` allows and refuses, and how it says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mfbazel.policy import (
    PolicyError,
    Rules,
    check_base,
    check_index,
    check_packages,
    check_registry,
    parse_rules,
    read_rules,
    refuse,
)

DIGEST = "sha256:" + "0" * 64


def lock(**licences: str) -> dict[str, Any]:
    """A lock of one step with these packages at version 1.0, by their licence."""
    wheels = {
        name: {"name": name.replace("_", "-"), "version": "1.0", "license": text} for name, text in licences.items()
    }
    return {"wheels": wheels, "environments": {"train": {"wheels": {"linux/amd64": list(wheels)}}}}


def said(rules: dict[str, Any], locked: dict[str, Any]) -> list[str]:
    return [str(violation) for violation in check_packages(parse_rules(rules), locked)]


def test_without_tables_everything_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "mfbazel.toml"
    path.write_text("[lock]\n", encoding="utf-8")
    rules = read_rules(path)
    assert rules == Rules() == read_rules(None)
    assert not check_packages(rules, lock(numpy="anything"))
    assert not check_base(rules, "@any", [DIGEST])
    assert not check_index(rules, None) + check_registry(rules, "image", "host/x")


def test_a_package_that_is_not_listed_is_not_allowed_and_the_rule_is_named() -> None:
    rules = {"allowed": {"packages": ["numpy>=1", "scikit-*"]}}
    assert said(rules, lock(numpy="MIT", scikit_learn="MIT", torch="MIT")) == [
        "torch 1.0 (train): not in [allowed] packages of mfbazel.toml, which has numpy>=1, scikit-*"
    ]


def test_a_version_that_is_refused_is_refused_although_the_package_is_allowed() -> None:
    rules = {"allowed": {"packages": ["numpy"]}, "refused": {"packages": ["NumPy<2"]}}
    assert said(rules, lock(numpy="MIT")) == [
        "numpy 1.0 (train): refused by [refused] packages of mfbazel.toml, 'NumPy<2'"
    ]
    assert not said({"refused": {"packages": ["numpy<1", "num"]}}, lock(numpy="MIT"))


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("mit", True),
        ("Apache-2.0", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND Apache-2.0", False),
        ("MIT AND (Apache-2.0 OR BSD-3-Clause)", True),
        ("(MIT OR Apache-2.0) AND (Apache-2.0 OR GPL-2.0-only)", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-3.0-only OR AGPL-3.0-only", False),
        ("BSD License", True),
        ("unknown", False),
        ("LicenseRef-NVIDIA-Proprietary", True),
    ],
)
def test_licence_expressions_are_evaluated(licence: str, allowed: bool) -> None:
    entries = ["MIT", "BSD-3-Clause", "bsd license", "Apache-2.0 WITH LLVM-exception", "LicenseRef-NVIDIA-*"]
    found = said({"allowed": {"licences": entries}}, lock(thing=licence))
    assert (not found) == allowed
    assert allowed or f"the licence of thing 1.0 (train), {licence}: not in [allowed] licences of mfbazel.toml" in found


def test_a_refused_licence_counts_unless_there_is_a_choice() -> None:
    rules = {"refused": {"licences": ["AGPL-*"]}}
    assert said(rules, lock(thing="MIT AND AGPL-3.0-only")) == [
        "the licence of thing 1.0 (train), MIT AND AGPL-3.0-only: "
        "refused by [refused] licences of mfbazel.toml, 'AGPL-*'"
    ]
    assert not said(rules, lock(thing="MIT OR AGPL-3.0-only"))


def test_a_package_whose_licence_somebody_looked_at_is_exempt() -> None:
    rules = {"allowed": {"licences": ["MIT"]}, "exempt": {"licences": ["certifi", "own-*<2"]}}
    assert not said(rules, lock(certifi="MPL-2.0", own_thing="unknown"))
    assert len(said(rules, lock(other="MPL-2.0"))) == 1


@pytest.mark.parametrize(
    ("entry", "repository", "allowed"),
    [
        ("registry.example.com/ml", "registry.example.com/ml/churn", True),
        ("registry.example.com/ml/", "registry.example.com/ml@" + DIGEST, True),
        ("registry.example.com/ml", "registry.example.com/mlops", False),
        ("registry.example.com", "registry.example.com.evil.org/x", False),
        ("*.example.com/ml/*", "eu.example.com/ml/churn", True),
        ("registry.example.com", "evil.org/registry.example.com/x", False),
        ("*.example.com/ml", "evil.org/x.example.com/ml", False),
    ],
)
def test_a_registry_is_allowed_with_everything_below(entry: str, repository: str, allowed: bool) -> None:
    rules = parse_rules({"allowed": {"registries": [entry]}})
    assert (not check_registry(rules, "the image of step 'train',", repository)) == allowed


def test_the_public_index_has_a_name_of_its_own() -> None:
    rules = parse_rules({"allowed": {"indexes": ["https://packages.example.com/*"]}})
    assert not check_index(rules, "https://packages.example.com/simple/")
    assert check_index(rules, "https://other.example.com/simple")
    assert "the public index" in str(check_index(rules, None)[0])
    assert not check_index(parse_rules({"allowed": {"indexes": ["public"]}}), None)


def test_a_base_is_allowed_by_its_target_or_by_its_digest() -> None:
    label = "@@rules_oci~2.3~oci~python_base//:python_base"
    for entry in ("@python_base", "@python_*", DIGEST):
        assert not check_base(parse_rules({"allowed": {"bases": [entry]}}), label, [DIGEST])
    assert not check_base(parse_rules({"allowed": {"bases": ["//bases:cuda"]}}), "@@//bases:cuda", [DIGEST])
    found = check_base(parse_rules({"allowed": {"bases": ["@other", "sha256:" + "1" * 64]}}), label, [DIGEST])
    assert str(found[0]).startswith(f"the base image @python_base ({DIGEST}): not in [allowed] bases of mfbazel.toml")


def test_a_refusal_says_what_where_and_whom_to_ask() -> None:
    rules = parse_rules({"contact": "#ml-platform", "refused": {"packages": ["torch"]}})
    with pytest.raises(PolicyError, match=r"packages of //x:y that mfbazel.toml does not allow") as caught:
        refuse(rules, "packages of //x:y", check_packages(rules, lock(torch="MIT")))
    assert str(caught.value).splitlines()[1:] == [
        "  torch 1.0 (train): refused by [refused] packages of mfbazel.toml, 'torch'",
        "Choose something else, or ask #ml-platform.",
    ]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"allowed": {"licenses": ["MIT"]}}, "[allowed]: unknown key `licenses`; there are bases, registries, indexes"),
        ({"allowed": []}, "`allowed` is not a table"),
        ({"allowed": {"packages": "numpy"}}, "[allowed]: `packages` is not a list of strings"),
        ({"allowed": {"packages": [""]}}, "[allowed]: `packages` is not a list of strings"),
        ({"refused": {"packages": ["numpy=1"]}}, "[refused]: `packages`: 'numpy=1' is no name of a package"),
        ({"allowed": {"bases": ["sha256:12"]}}, "[allowed]: `bases`: 'sha256:12' is no digest"),
        ({"allowed": {"registries": ["https://r.example.com"]}}, "is a URL: write the host and the path alone"),
        ({"allowed": {"indexes": ["https://user:secret@p.example.com"]}}, "holds credentials"),
        ({"exempt": {"packages": ["numpy"]}}, "[exempt]: unknown key `packages`; there are licences, files"),
        ({"contact": 1}, "`contact` is not a string"),
    ],
)
def test_what_is_wrong_in_the_policy_is_named(document: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_rules(document)
    assert "mfbazel.toml" in str(caught.value)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_what_concerns_some_keys_can_travel_by_itself() -> None:
    rules = parse_rules({"contact": "us", "allowed": {"registries": ["r.example.com"], "packages": ["numpy"]}})
    assert rules.only("registries") == {"allowed": {"registries": ["r.example.com"]}, "contact": "us"}
    assert parse_rules(rules.only("registries")).allowed == {"registries": ("r.example.com",)}
    assert rules.only("bases") == {}
