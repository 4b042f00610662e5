"""What the tests of a process share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.other_workspace import OtherWorkspace


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtherWorkspace]:
    """The place of another workspace: the modules that use it do so one after another, with one Bazel server.

    What Bazel has fetched and made for one of them, mfbazel's own tools above all, is there for the next.
    """
    scratch = tmp_path_factory.mktemp("other")
    made = OtherWorkspace(scratch / "workspace", scratch / "output_base")
    try:
        yield made
    finally:
        made.close()
