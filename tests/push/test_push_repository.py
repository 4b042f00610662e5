"""Which repository names are taken, and what is said about the others."""

from __future__ import annotations

import re
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.push_rig import find_crane
from mfbazel.push.errors import PushError
from mfbazel.push.repository import clean_path, parse_repository, parse_tag


@pytest.mark.parametrize(
    "value",
    [
        "registry.example.com/ml/churn",
        "registry.example.com:5000/ml/my-flow__x/a.b_c",
        "127.0.0.1:5000/ab",
        "localhost:5000/a/b",
        "[::1]:5000/ml/flow",
        "registry.example.com/a---b/c",
    ],
)
def test_valid_names_are_taken_as_they_are(value: str) -> None:
    assert str(parse_repository(value, "option --repository")) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", "it is empty"),
        (" registry.example.com/a/b", "blanks around it"),
        ("https://registry.example.com/ml", "it holds a scheme"),
        ("registry.example.com/ml/flow:latest", "it holds the tag 'latest'; leave it out and use --tag"),
        ("registry.example.com/ml@sha256:" + "0" * 64, "it holds a digest; leave out '@'"),
        ("registry.example.com/ML/flow", "'ML' has uppercase letters; write 'ml'"),
        ("registry.example.com/ml//flow", "the component '' is not allowed"),
        ("registry.example.com/ml/flow/", "the component '' is not allowed"),
        ("registry.example.com/ml/-flow", "the component '-flow' is not allowed"),
        ("registry.example.com/ml/a___b", "the component 'a___b' is not allowed"),
        ("registry.example.com/ml/a..b", "the component 'a..b' is not allowed"),
        ("registry.example.com/a", "the path 'a' has one character, and crane"),
        ("registry.example.com", "the path after the host is missing"),
        ("ml/flow", "it has no host: 'ml' has neither a '.' nor a port"),
        ("localhost/ml/flow", "it has no host: 'localhost'"),
        ("registry.example.com:99999/ml", "99999 is not a port"),
        ("registry_.example.com/ml", "'registry_.example.com' is not a host"),
        ("registry.example.com/" + "a" * 255, "it has 276 characters"),
    ],
)
def test_invalid_names_are_refused_with_value_place_and_advice(value: str, expected: str) -> None:
    with pytest.raises(PushError) as caught:
        parse_repository(value, "attribute `repository` of //ml:flow")
    assert f"the repository name {value!r} is invalid (attribute `repository` of //ml:flow)" in str(caught.value)
    assert expected in str(caught.value)
    assert "A repository is host[:port]/path" in str(caught.value)


@pytest.mark.parametrize("value", ["me:s3cret@registry.example.com/ml", "https://me:s3cret@registry.example.com/ml"])
def test_credentials_in_a_name_are_refused_and_not_printed(value: str) -> None:
    with pytest.raises(PushError) as caught:
        parse_repository(value, "option --repository")
    assert "s3cret" not in str(caught.value)
    assert "***@registry.example.com/ml" in str(caught.value)


@settings(max_examples=25, deadline=None)
@given(st.from_regex(r"[a-z0-9._/-]{1,12}", fullmatch=True))
def test_what_is_taken_here_is_taken_by_crane(path: str) -> None:
    try:
        name = str(parse_repository(f"127.0.0.1:1/{path}", "option --repository"))
    except PushError:
        return
    done = subprocess.run(
        [find_crane(), "digest", f"{name}@sha256:{'0' * 64}"], capture_output=True, text=True, check=False
    )
    assert "could not parse reference" not in done.stderr
    assert "connection refused" in done.stderr


@settings(deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_any_label_gives_a_valid_path(package: str, name: str) -> None:
    assert parse_repository(f"127.0.0.1:5000/{clean_path(package, name)}", "embedded")


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        (("examples/churn", "churn_flow"), "examples/churn/churn_flow"),
        (("Team A/ml", "My+Flow"), "team-a/ml/my-flow"),
        (("", "f"), "flow-f"),
    ],
)
def test_the_embedded_repository_is_named_after_the_label(parts: tuple[str, str], path: str) -> None:
    assert clean_path(*parts) == path


@pytest.mark.parametrize("tag", ["", "-a", "a b", "a" * 129, "ä"])
def test_invalid_tags_are_refused(tag: str) -> None:
    with pytest.raises(PushError, match=re.escape(f"the tag {tag!r} is invalid (--tag)")):
        parse_tag(tag, "--tag")
