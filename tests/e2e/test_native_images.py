"""Images of the native assembler as others read them: the image-spec's JSON schemas, skopeo, crane and podman.

The churn flow's image has one platform, the forecast flow's are indexes over two. Their blobs are links out of the
layout, to the layers and into the base: that the tools follow them is shown by the bytes that come out at the other
end.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import referencing
import zstandard
from referencing.jsonschema import DRAFT4

from tests.e2e.containers import (
    Engine,
    containers_for_ordinary_users_are_optional,
    search_path,
    why_no_containers,
)
from tests.e2e.layouts import CONFIG, INDEX, MANIFEST, Json, Layout, digest_of
from tests.e2e.registry import Registry

RUNFILES = Path(__file__).absolute().parents[2]
CRANE = RUNFILES / "rules" / "private" / "crane"
PATHS = json.loads(Path(__file__).with_name("native_images.json").read_text(encoding="utf-8"))

SCHEMAS = Path("/usr/share/gocode/src/github.com/opencontainers/image-spec/schema")
TAR = "application/vnd.oci.image.layer.v1.tar"
SCHEMA_OF = {INDEX: "image-index-schema.json", MANIFEST: "image-manifest-schema.json", CONFIG: "config-schema.json"}

needs_schemas = pytest.mark.skipif(
    not SCHEMAS.is_dir(),
    reason=f"no {SCHEMAS}: install the image-spec's schemas (Debian: golang-github-opencontainers-image-spec-dev)",
)
SKOPEO = shutil.which("skopeo", path=search_path())
needs_skopeo = pytest.mark.skipif(SKOPEO is None, reason="no skopeo on PATH: install it (Debian: skopeo)")


def linked(name: str, directory: Path) -> Layout:
    """Return an image whose blobs are relative links, as they are built; Bazel's caches leave files in their place."""
    built, made = RUNFILES / PATHS[name], directory / Path(PATHS[name]).name
    for path in (path for path in built.rglob("*") if path.is_file()):
        link = made / path.relative_to(built)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(path.resolve(), link.parent.resolve()))
    return Layout(made)


@pytest.fixture(params=PATHS.keys())
def layout(request: pytest.FixtureRequest, tmp_path: Path) -> Layout:
    """Each of the images."""
    return linked(request.param, tmp_path)


@pytest.fixture
def index(tmp_path: Path) -> Layout:
    """One that has two platforms."""
    return linked("forecast_fit", tmp_path)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port of a registry."""
    scratch = tmp_path_factory.mktemp("registry")
    (scratch / "store").mkdir()
    service = Registry(CRANE, scratch / "store", scratch / "registry.log")
    with service:
        yield service.host


def schema(name: str) -> jsonschema.Draft4Validator:
    """Return the validator of a schema; those that it refers to are the files beside it."""

    def beside(uri: str) -> referencing.Resource[Any]:
        return DRAFT4.create_resource(json.loads((SCHEMAS / uri.rpartition("/")[2]).read_text(encoding="utf-8")))

    registry: referencing.Registry[Any] = referencing.Registry(retrieve=beside)  # type: ignore[call-arg]
    content = json.loads((SCHEMAS / name).read_text(encoding="utf-8"))
    return jsonschema.Draft4Validator(content, registry=registry, format_checker=jsonschema.FormatChecker())


def run(*command: str | Path) -> str:
    """Return the standard output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def skopeo(*arguments: str | Path) -> str:
    assert SKOPEO is not None
    return run(SKOPEO, "--insecure-policy", *arguments)


@needs_schemas
def test_every_document_of_a_layout_is_valid_under_the_image_specs_schemas(layout: Layout) -> None:
    schema("image-layout-schema.json").validate(json.loads((layout.directory / "oci-layout").read_bytes()))
    schema("image-index-schema.json").validate(json.loads((layout.directory / "index.json").read_bytes()))
    seen = set()
    for descriptor in layout.descriptors():
        schema("content-descriptor.json").validate(descriptor)
        if descriptor["mediaType"] in SCHEMA_OF:
            document = layout.document(descriptor["digest"])
            assert document.get("mediaType", CONFIG) == descriptor["mediaType"]
            schema(SCHEMA_OF[descriptor["mediaType"]]).validate(document)
            seen.add(descriptor["mediaType"])
    assert {MANIFEST, CONFIG} <= seen


@needs_schemas
@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        (INDEX, lambda document: document["manifests"][0]["platform"].pop("os")),
        (MANIFEST, lambda document: document["layers"][0].pop("size")),
        (MANIFEST, lambda document: document["layers"][0].update(digest="sha256:short!")),
        (MANIFEST, lambda document: document.setdefault("annotations", {}).update(number=1)),
        (CONFIG, lambda document: document["rootfs"].update(diff_ids="none")),
        (CONFIG, lambda document: document["config"].update(Env={"PATH": "/bin"})),
    ],
)
def test_the_schemas_refuse_what_is_damaged(index: Layout, kind: str, damage: Callable[[Json], None]) -> None:
    descriptor = next(entry for entry in index.descriptors() if entry["mediaType"] == kind)
    document = index.document(descriptor["digest"])
    damage(document)
    with pytest.raises(jsonschema.ValidationError):
        schema(SCHEMA_OF[kind]).validate(document)


def test_every_blob_has_the_digest_and_size_that_its_descriptors_say(layout: Layout) -> None:
    described = {descriptor["digest"]: descriptor["size"] for descriptor in layout.descriptors()}
    for digest, size in described.items():
        assert layout.blob(digest).stat().st_size == size
    _assert_whole(layout)
    there = {path.name for path in (layout.directory / "blobs" / "sha256").iterdir()}
    assert there == {digest.removeprefix("sha256:") for digest in described}


def test_the_configuration_has_the_diff_id_of_every_layer(layout: Layout) -> None:
    for manifest in layout.manifests():
        config = layout.config(manifest)
        assert [_diff_id(layout, layer) for layer in manifest["layers"]] == config["rootfs"]["diff_ids"]
        history = [entry for entry in config["history"] if not entry.get("empty_layer")]
        assert len(history) == len(manifest["layers"])


def test_an_index_names_both_platforms_as_their_configurations_do(index: Layout) -> None:
    entries = index.document(index.top["digest"])["manifests"]
    configs = [index.config(index.document(entry["digest"])) for entry in entries]
    for entry, config in zip(entries, configs, strict=True):
        assert entry["platform"] == {key: config[key] for key in entry["platform"]}
    assert [entry["platform"]["architecture"] for entry in entries] == ["amd64", "arm64"]


@needs_skopeo
def test_skopeo_reads_the_documents_as_they_are(layout: Layout) -> None:
    assert digest_of(skopeo("inspect", "--raw", f"oci:{layout.directory}").encode()) == layout.top["digest"]
    for manifest in layout.manifests():
        config = layout.config(manifest)
        platform = f"--override-arch={config['architecture']}", f"--override-os={config['os']}"
        assert json.loads(skopeo(*platform, "inspect", "--config", "--raw", f"oci:{layout.directory}")) == config
        said = json.loads(skopeo(*platform, "inspect", f"oci:{layout.directory}"))
        assert said["Layers"] == [layer["digest"] for layer in manifest["layers"]]


@needs_skopeo
def test_skopeo_copies_the_image_of_each_platform_with_every_blob(layout: Layout, tmp_path: Path) -> None:
    # One by one: of an index (--all) it would write another one, which says that there is zstd.
    for descriptor in [entry for entry in layout.descriptors() if entry["mediaType"] == MANIFEST]:
        manifest = layout.document(descriptor["digest"])
        config = layout.config(manifest)
        copy = Layout(tmp_path / str(config["architecture"]))
        # Otherwise it compresses the layers that are tars.
        command = (f"--override-arch={config['architecture']}", "copy", "--preserve-digests")
        skopeo(*command, f"oci:{layout.directory}", f"oci:{copy.directory}")
        assert copy.top["digest"] == descriptor["digest"]
        for blob in (manifest["config"], *manifest["layers"]):
            assert not copy.blob(blob["digest"]).is_symlink()
        _assert_whole(copy)


def test_crane_pushes_the_layout_and_finds_the_pushed_image_valid(
    layout: Layout, registry: str, tmp_path: Path
) -> None:
    name = f"{registry}/images/{layout.directory.name.lower()}:latest"
    assert run(CRANE, "push", layout.directory, name).strip().endswith(f"@{layout.top['digest']}")
    # Without --fast it would unpack the layers as gzip, whatever they are.
    assert "PASS" in run(CRANE, "validate", "--fast", "--remote", name)
    run(CRANE, "pull", "--format=oci", name, tmp_path / "pulled")
    pulled = Layout(tmp_path / "pulled")
    assert pulled.top["digest"] == layout.top["digest"]
    _assert_whole(pulled)


@pytest.fixture(scope="module")
def engine(registry: str) -> Iterator[Engine]:
    """A container engine."""
    if reason := why_no_containers():
        pytest.skip(reason)
    # Sockets have short paths.
    with tempfile.TemporaryDirectory(prefix="mfbazel-podman.") as scratch, containers_for_ordinary_users_are_optional():
        (Path(scratch) / "engine").mkdir()
        with Engine(Path(scratch) / "engine", registry, {}, Path(scratch) / "podman.log") as started:
            assert isinstance(started, Engine)
            yield started


@pytest.mark.parametrize(("name", "module"), [("churn_prepare", "pandas"), ("forecast_fit", "numpy")])
def test_podman_pulls_the_layout_and_runs_the_steps_packages(
    engine: Engine, tmp_path: Path, name: str, module: str
) -> None:
    layout = linked(name, tmp_path)
    image = engine.pull(f"oci:{layout.directory}")
    done = engine.run(image, "python", "-c", f"import {module}; print({module}.__file__)")
    if done.returncode:
        with containers_for_ordinary_users_are_optional():
            engine.require_containers(image)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("/opt/venv/lib/python3.14/site-packages/")


def _diff_id(layout: Layout, layer: Json) -> str:
    """Return the digest of a layer's tar, whose media type says whether it is compressed."""
    with layout.blob(layer["digest"]).open("rb") as stream:
        if layer["mediaType"] == TAR:
            return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
        assert layer["mediaType"] == f"{TAR}+zstd"
        digest = hashlib.sha256()
        for chunk in zstandard.ZstdDecompressor().read_to_iter(stream, read_size=1 << 20):
            digest.update(chunk)
        return f"sha256:{digest.hexdigest()}"


def _assert_whole(layout: Layout) -> None:
    """Every blob that the descriptors name is there, with the bytes that it should have."""
    for digest in {descriptor["digest"] for descriptor in layout.descriptors()}:
        with layout.blob(digest).open("rb") as stream:
            assert f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}" == digest
