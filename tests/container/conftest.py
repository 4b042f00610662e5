"""What the tests with real containers share: each engine gets an image once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.container.laptops import ENGINES, Laptop, started_laptop


@pytest.fixture(scope="session", params=ENGINES)
def laptop(request: pytest.FixtureRequest) -> Iterator[Laptop]:
    """A home, a working directory, one engine, and what stands for Bazel."""
    with started_laptop(request.param) as started:
        yield started
