"""What a container engine is not made to believe: changed layers, and that everybody is root.

Tests are skipped, with podman's own words, where the kernel lets this user start no containers (as in many of CI), and
the one of another user where an ordinary user has no subordinate ids; root runs all of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mfbazel.image.__main__ import main as image
from tests.container.laptops import ROOT, layouts
from tests.container.layouts import Members, write_layout
from tests.e2e.containers import Engine, EngineError, containers_for_ordinary_users_are_optional, why_no_containers
from tests.e2e.registry import Registry

CRANE = ROOT / "rules" / "private" / "crane"


@dataclass(frozen=True)
class Site:
    """An engine, a registry that it may ask, and the directory that the registry keeps blobs in."""

    engine: Engine
    registry: Registry
    store: Path


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """podman with storage of its own, and crane's registry."""
    if reason := why_no_containers():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="mfbazel-t.") as scratch:
        directory = Path(scratch)
        for name in ("engine", "store"):
            (directory / name).mkdir()
        registry = Registry(CRANE, directory / "store", directory / "registry.log")
        with (
            registry,
            containers_for_ordinary_users_are_optional(),
            Engine(directory / "engine", registry.host, {}, directory / "podman.log") as engine,
        ):
            yield Site(engine, registry, directory / "store")


def change(file: Path) -> None:
    """Change a byte in the middle of what a layer holds; its length stays."""
    data = file.read_bytes()
    at = data.index(b"honest")
    file.write_bytes(data[:at] + b"hostile"[:6] + data[at + 6 :])


def small(directory: Path) -> Path:
    """Write an image of one small layer."""
    return write_layout(directory, [Members().file("program", "honest")])


def layer_of(layout: Path) -> str:
    """Return the hex digest of the only layer."""
    (entry,) = json.loads(layout.joinpath("index.json").read_text(encoding="utf-8"))["manifests"]
    manifest = layout / "blobs" / entry["digest"].replace(":", "/")
    return str(json.loads(manifest.read_text(encoding="utf-8"))["layers"][0]["digest"]).removeprefix("sha256:")


def test_a_layer_that_was_changed_after_the_build_starts_no_container(site: Site, tmp_path: Path) -> None:
    site.engine.pull(f"oci:{small(tmp_path / 'good')}")
    bad = write_layout(tmp_path / "bad", [Members().file("program", "honest work")])
    change(bad / "blobs" / "sha256" / layer_of(bad))
    with pytest.raises(EngineError, match="sha256"):
        site.engine.pull(f"oci:{bad}")


def test_a_blob_that_was_changed_in_the_registry_starts_no_container(site: Site, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", [Members().file("program", "honest program")])
    name = f"{site.registry.host}/ml/small"
    pushed = subprocess.run([CRANE, "push", layout, name], capture_output=True, text=True, check=True).stdout.strip()
    (stored,) = (path for path in site.store.rglob(f"*{layer_of(layout)}*") if path.is_file())
    change(stored)
    with pytest.raises(EngineError, match=r"sha256|digest"):
        site.engine.pull(pushed)


def test_a_container_runs_as_the_user_that_its_image_names(site: Site, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    # `user = "65534:65534"` in metaflow_flow becomes this option.
    base = layouts()["start"]
    image(["assemble", "--base", str(base), "--user", "65534:65534", "--output", str(layout)])
    pulled = site.engine.pull(f"oci:{layout}")
    code = "import os, pathlib; pathlib.Path('made').touch(); print(os.getuid(), os.getgid(), os.getcwd())"
    done = site.engine.run(pulled, "python", "-c", code)
    if done.returncode and not _is_root():
        pytest.skip(f"this user has no other users in a namespace: {done.stderr.strip()}")
    assert done.stdout.split() == ["65534", "65534", "/metaflow"], done.stderr


def _is_root() -> bool:
    return os.geteuid() == 0
