"""From import names to distributions."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from mfbazel.lock import distributions
from mfbazel.lock.distributions import Answer, Names, Provided, import_names, known_names
from mfbazel.lock.errors import LockError


@pytest.mark.parametrize(
    ("name", "candidates", "source"),
    [
        ("sklearn.linear_model", ("scikit-learn",), "mapping"),  # pipreqs alone
        ("skimage.io", ("scikit-image",), "mapping"),  # conda-pypi alone
        ("yaml", ("pyyaml",), "mapping"),
        ("PIL.Image", ("pillow",), "mapping"),
        ("dateutil", ("python-dateutil",), "mapping"),
        ("magic", ("python-magic",), "mapping"),  # one source names two, both name this one
        ("numpy.linalg", ("numpy",), "mapping"),  # a source names others besides the one called so
        ("cv2", ("opencv-python", "opencv-python-headless"), "mapping"),
        ("bson", ("bson", "pymongo"), "mapping"),  # the sources disagree
        ("google.cloud.storage.blob", ("google-cloud-storage",), "mapping"),
        ("google.protobuf", ("protobuf",), "mapping"),
        ("google.cloud.unheard_of", ("google-cloud-unheard-of",), "guess"),
        ("distutils.core", ("setuptools",), "mapping"),
        ("unheard_of.Thing", ("unheard-of",), "guess"),
    ],
)
def test_known_names(name: str, candidates: tuple[str, ...], source: str) -> None:
    answer = Names().by_mapping(name)
    assert (answer.candidates, answer.source) == (candidates, source)


def test_the_data_is_read_without_importing_its_packages() -> None:
    known_names.cache_clear()
    distributions._data.cache_clear()
    known_names()
    assert not {"pipreqs", "conda_pypi"} & set(sys.modules)


def test_missing_data_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    known_names.cache_clear()
    distributions._data.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(LockError, match=r"the package pipreqs, whose data .* is not installed"):
        Names().by_mapping("x")
    known_names.cache_clear()


def test_the_users_entry_holds_for_what_is_inside_too_and_the_longest_wins() -> None:
    names = Names({"google": "g", "google.cloud.storage": "Own_Storage", "base": ""})
    assert names.by_user("google.cloud.storage.blob") == Answer(
        "google.cloud.storage.blob", "google.cloud.storage", ("own-storage",), "imports"
    )
    assert names.by_user("google.auth") == Answer("google.auth", "google", ("g",), "imports")
    assert names.by_user("base.x") == Answer("base.x", "base", (), "imports")
    assert names.by_user("googles") is None


def test_wheels_are_asked_by_the_longest_part_that_is_a_module() -> None:
    provided = Provided()
    provided.add("google-cloud-storage", ["google.cloud.storage"])
    provided.add("google-cloud-core", ["google.cloud.client", "google.cloud.storage"])
    provided.add("pack", ["pack", "_pack"])
    assert provided.look_up("google.cloud.storage.blob") == Answer(
        "google.cloud.storage.blob", "google.cloud.storage", ("google-cloud-core", "google-cloud-storage"), "lock"
    )
    assert provided.look_up("google.cloud.client.X") == Answer(
        "google.cloud.client.X", "google.cloud.client", ("google-cloud-core",), "lock"
    )
    assert provided.look_up("pack.inner.Thing") == Answer("pack.inner.Thing", "pack", ("pack",), "lock")
    namespace = provided.look_up("google")
    assert namespace and namespace.candidates == ("google-cloud-core", "google-cloud-storage")
    assert provided.look_up("google.cloud.bigquery") is None
    assert provided.look_up("packs") is None
    assert provided.complete
    provided.add("old", None)
    assert not provided.complete


def test_members_may_be_modules() -> None:
    assert import_names("google.cloud", ("bigquery", "storage")) == ["google.cloud.bigquery", "google.cloud.storage"]
    assert import_names("numpy", ()) == ["numpy"]
