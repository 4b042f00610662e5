"""What the type of a registry changes in a push: limits, one request per blob, repositories that must be made first."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.push_rig import find_crane, random_content, write_images_json, write_layout
from mfbazel.push.__main__ import main
from mfbazel.push.errors import PushError
from mfbazel.registry import Client
from mfbazel.registry.types import RegistryTypeError, known_types
from tests.push.faulty_proxy import Fault, FaultyProxy, Reply
from tests.push.registries import Registry, docker_registry

BIG = random_content("big", 6_000_000)
PLUG_IN = """\
from mfbazel.registry.types import RegistryType

made = []
TYPES = [
    RegistryType("small", largest_blob=5_000_000),
    RegistryType("counting", requests_per_second=20),
    RegistryType("unwilling", missing=lambda host, path: f"Ask the owner of {path}."),
    RegistryType("willing", create_repository=lambda host, path: made.append((host, path))),
]
"""


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with docker_registry(tmp_path_factory.mktemp("docker")) as registry:
        yield registry


@pytest.fixture
def proxy(docker: Registry) -> Iterator[FaultyProxy]:
    with FaultyProxy(docker.host) as made:
        yield made


@pytest.fixture(autouse=True)
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install types of a team's own."""
    site = tmp_path / "site"
    info = site / "acme_registries-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "acme_registries.py").write_text(PLUG_IN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-registries\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mfbazel.registries]\nacme = acme_registries:TYPES\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("MFBAZEL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sys.modules.pop("acme_registries", None)
    known_types.cache_clear()
    yield
    known_types.cache_clear()


def push(root: Path, host: str, kind: str, path: str, *options: str) -> int:
    """Push an image with one large layer to a registry that ``mfbazel.toml`` says is of a kind."""
    (root / "mfbazel.toml").write_text(f'[registries]\n"{host}" = "{kind}"\n')
    digest = write_layout(root / "layout", {"big": BIG, path: path.encode()})
    images = write_images_json(root / "images.json", {"start": digest}, f"{host}/{path}", "//ml:flow")
    arguments = [f"--images={images}", f"--image=start={root / 'layout'}", f"--workspace={root}"]
    return main(["flow", *arguments, f"--crane={find_crane()}", *options])


def test_a_layer_beyond_the_limit_is_refused_before_anything_is_sent(tmp_path: Path, proxy: FaultyProxy) -> None:
    with pytest.raises(PushError) as caught:
        push(tmp_path, proxy.host, "small", "types/small")
    for word in ("sha256:", "6.0 MB", proxy.host, "(small)", "5.0 MB", "`budget`"):
        assert word in str(caught.value)
    assert not [seen for seen in proxy.seen if seen.method in ("POST", "PATCH", "PUT")]


def test_requests_to_a_registry_that_counts_them_begin_one_after_the_other(tmp_path: Path, proxy: FaultyProxy) -> None:
    began = time.monotonic()
    assert push(tmp_path, proxy.host, "counting", "types/counting") == 0
    assert time.monotonic() - began >= (len(proxy.seen) - 1) / 20
    assert len(proxy.seen) > 10


def test_a_registry_without_chunks_gets_a_blob_in_one_put(tmp_path: Path, proxy: FaultyProxy) -> None:
    assert push(tmp_path, proxy.host, "ecr", "types/whole") == 0
    assert not proxy.of("PATCH")
    assert max(seen.arrived for seen in proxy.of("PUT")) >= len(BIG)


def test_of_a_missing_repository_the_type_says_what_to_do(tmp_path: Path, proxy: FaultyProxy) -> None:
    proxy.script(Fault(Reply(404), "POST", times=0))
    with pytest.raises(PushError, match=r"has no repository .*types/missing.*Ask the owner of types/missing\."):
        push(tmp_path, proxy.host, "unwilling", "types/missing")


def test_a_missing_repository_is_made_when_the_person_asks_for_that(tmp_path: Path, proxy: FaultyProxy) -> None:
    proxy.script(Fault(Reply(404), "POST", times=1))
    with pytest.raises(PushError, match="has no repository"):
        push(tmp_path, proxy.host, "willing", "types/made", "--jobs=1")
    proxy.script(Fault(Reply(404), "POST", times=1))
    assert push(tmp_path, proxy.host, "willing", "types/made", "--jobs=1", "--create-repositories") == 0
    assert sys.modules["acme_registries"].made == [(proxy.host, "types/made")]
    assert Client(proxy.host).head_manifest("types/made", "latest") is None


def test_a_type_that_nobody_has_is_an_error_that_lists_them(tmp_path: Path, proxy: FaultyProxy) -> None:
    with pytest.raises((PushError, RegistryTypeError), match=r"is said to be 'habor'; there are acr, .*, willing"):
        push(tmp_path, proxy.host, "habor", "types/none")
