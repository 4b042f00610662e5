"""Images from descriptors: documents, links, selection, archives. Nothing here needs a network."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from mfbazel.errors import MfbazelError
from mfbazel.image import ImageError
from mfbazel.image.__main__ import main
from mfbazel.layer import LayerError
from mfbazel.policy import PolicyError
from tests.image.layouts import EPOCH, assemble, config_of, document, lines, make_layer, manifest_of, two_platforms


def test_image_from_nothing_is_complete(tmp_path: Path) -> None:
    layer = make_layer(tmp_path, "one")
    layout = assemble(tmp_path, "image", "--layer", f"{layer}=bazel build //pkg:one", "--variant", "v3")
    described = json.loads((tmp_path / "one.json").read_text())
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert manifest_of(layout)["layers"] == [{key: described[key] for key in ("mediaType", "digest", "size")}]
    assert config_of(layout) == {
        "os": "linux",
        "architecture": "amd64",
        "variant": "v3",
        "created": EPOCH,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [described["diffID"]]},
        "history": [{"created": EPOCH, "created_by": "bazel build //pkg:one"}],
    }
    digest = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
    assert (tmp_path / "image.sha256").read_text() == f"{digest}\n"


def test_layers_are_linked_and_never_read(tmp_path: Path) -> None:
    layer = make_layer(tmp_path, "one")
    blob = tmp_path / "one.tar"
    size = blob.stat().st_size
    blob.write_bytes(b"?" * size)
    layout = assemble(tmp_path, "image", "--layer", layer)
    digest = json.loads((tmp_path / "one.json").read_text())["digest"].removeprefix("sha256:")
    link = layout / "blobs" / "sha256" / digest
    assert os.readlink(link) == "../../../one.tar"  # noqa: PTH115
    top = assemble(tmp_path, "top", "--base", str(layout), "--layer", make_layer(tmp_path, "two"))
    assert (top / "blobs" / "sha256" / digest).read_bytes() == b"?" * size


def test_links_survive_moving_the_output_with_its_inputs(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    layout = assemble(tmp_path / "bin", "image", "--layer", make_layer(tmp_path / "bin", "one"))
    moved = (tmp_path / "bin").rename(tmp_path / "elsewhere") / layout.name
    for entry in manifest_of(moved)["layers"]:
        document_path = moved / "blobs" / "sha256" / entry["digest"].removeprefix("sha256:")
        assert hashlib.sha256(document_path.read_bytes()).hexdigest() == document_path.name


@pytest.mark.parametrize("link", ["hard", "copy"])
def test_layers_can_be_brought_in_as_files(tmp_path: Path, link: str) -> None:
    layout = assemble(tmp_path, "image", "--layer", make_layer(tmp_path, "one"), "--link", link)
    digest = manifest_of(layout)["layers"][0]["digest"].removeprefix("sha256:")
    blob = layout / "blobs" / "sha256" / digest
    assert not blob.is_symlink()
    assert blob.samefile(tmp_path / "one.tar") == (link == "hard")
    assert blob.read_bytes() == (tmp_path / "one.tar").read_bytes()


def test_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    layer = make_layer(tmp_path, "one")
    digests = set()
    for name in ("a", "b"):
        assemble(tmp_path, name, "--layer", f"{layer}=x", "--label", "b=1", "--label", "a=2")
        digests.add((tmp_path / f"{name}.sha256").read_text())
    assemble(tmp_path, "c", "--layer", f"{layer}=x", "--label", "a=2", "--label", "b=1")
    assert digests == {(tmp_path / "c.sha256").read_text()}


def test_options_apply_over_the_base_as_in_rules_oci(tmp_path: Path) -> None:
    base = assemble(
        tmp_path,
        "base",
        *("--layer", make_layer(tmp_path, "one") + "=one"),
        *("--env", "PATH=/usr/bin", "--env", "A=1", "--label", "x=1", "--label", "y=1", "--annotation", "n=1"),
        *("--cmd-file", lines(tmp_path / "cmd", "old"), "--user", "root"),
        *("--exposed-ports-file", lines(tmp_path / "ports1", "80/tcp,81")),
        *("--created-file", lines(tmp_path / "created", "2020-02-02T00:00:00Z")),
    )
    layout = assemble(
        tmp_path,
        "image",
        *("--base", str(base), "--layer", make_layer(tmp_path, "two")),
        *("--env-file", lines(tmp_path / "env", "PATH=/opt/venv/bin:$PATH", "A=${A}-$PATH-$NONE", "B=a=b", "")),
        *("--labels-file", lines(tmp_path / "labels", "y=2", "z=3=4")),
        *("--annotations-file", lines(tmp_path / "annotations", "m=2")),
        *("--exposed-ports-file", lines(tmp_path / "ports2", "443/tcp")),
        *("--volumes-file", lines(tmp_path / "volumes", "/data,/more")),
        *("--entrypoint-file", lines(tmp_path / "entry", "/bin/sh", "-c", "a%5Cnb, c")),
        *("--workdir", "/work"),
    )
    config = config_of(layout)
    assert config["config"] == {
        "Env": ["PATH=/opt/venv/bin:/usr/bin", "A=1-/opt/venv/bin:/usr/bin-", "B=a=b"],
        "Labels": {"x": "1", "y": "2", "z": "3=4"},
        "ExposedPorts": {"80/tcp": {}, "81": {}, "443/tcp": {}},
        "Volumes": {"/data": {}, "/more": {}},
        "Entrypoint": ["/bin/sh", "-c", "a\nb, c"],
        "User": "root",
        "WorkingDir": "/work",
    }, "and no Cmd: an entrypoint clears it"
    assert config["created"] == "2020-02-02T00:00:00Z"
    assert [entry["created_by"] for entry in config["history"]] == ["one", "bazel build two.tar"]
    assert manifest_of(layout)["annotations"] == {"n": "1", "m": "2"}
    base_layers = manifest_of(base)["layers"]
    assert manifest_of(layout)["layers"][: len(base_layers)] == base_layers
    diff_ids = [json.loads((tmp_path / f"{name}.json").read_text())["diffID"] for name in ("one", "two")]
    assert config["rootfs"]["diff_ids"] == diff_ids


def test_cmd_beside_entrypoint_stays(tmp_path: Path) -> None:
    layout = assemble(
        tmp_path,
        "image",
        *("--entrypoint-file", lines(tmp_path / "entry", "/run"), "--cmd-file", lines(tmp_path / "cmd", "--help")),
    )
    assert config_of(layout)["config"] == {"Entrypoint": ["/run"], "Cmd": ["--help"]}


def test_arguments_can_come_from_a_file(tmp_path: Path) -> None:
    output = tmp_path / "image"
    path = lines(tmp_path / "args", "assemble", "--output", str(output), "--os", "linux", "--architecture", "arm64")
    assert main([f"@{path}"]) == 0
    assert config_of(output)["architecture"] == "arm64"


def test_index_lists_its_images_with_their_platforms(tmp_path: Path) -> None:
    layout = two_platforms(tmp_path)
    (top,) = json.loads((layout / "index.json").read_text())["manifests"]
    assert (tmp_path / "index.sha256").read_text().strip() == top["digest"]
    entries = document(layout, top["digest"])["manifests"]
    assert [entry["platform"] for entry in entries] == [
        {"os": "linux", "architecture": "amd64"},
        {"os": "linux", "architecture": "arm64"},
    ]
    for entry in entries:
        manifest = document(layout, entry["digest"])
        assert (
            len((layout / "blobs" / "sha256" / entry["digest"].removeprefix("sha256:")).read_bytes()) == entry["size"]
        )
        for described in (manifest["config"], *manifest["layers"]):
            assert (layout / "blobs" / "sha256" / described["digest"].removeprefix("sha256:")).exists()


def test_platform_selects_from_a_base_with_several(tmp_path: Path) -> None:
    base = str(two_platforms(tmp_path))
    layout = assemble(tmp_path, "image", "--base", base, "--platform", "linux/arm64")
    assert config_of(layout)["architecture"] == "arm64"
    with pytest.raises(ImageError, match=r"no image for the platform linux/s390x; it has: linux/amd64, linux/arm64"):
        assemble(tmp_path, "image", "--base", base, "--platform", "linux/s390x")
    with pytest.raises(ImageError, match="choose one with --platform; it has: linux/amd64, linux/arm64"):
        assemble(tmp_path, "image", "--base", base)


def test_index_refuses_one_platform_twice(tmp_path: Path) -> None:
    one, two = (str(assemble(tmp_path, name)) for name in ("one", "two"))
    with pytest.raises(ImageError, match=r"two images are for linux/amd64: .*one and .*two"):
        main(["index", "--output", f"{tmp_path}/index", "--image", one, two])
    assert not (tmp_path / "index").exists()


def test_docker_media_types_of_a_base_become_those_of_oci(tmp_path: Path) -> None:
    base = assemble(tmp_path, "base", "--layer", make_layer(tmp_path, "one", "gzip"))
    manifest = manifest_of(base)
    manifest["mediaType"] = "application/vnd.docker.distribution.manifest.v2+json"
    manifest["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    data = json.dumps(manifest).encode()
    digest = hashlib.sha256(data).hexdigest()
    (base / "blobs" / "sha256" / digest).write_bytes(data)
    entry = {"mediaType": manifest["mediaType"], "digest": f"sha256:{digest}", "size": len(data)}
    (base / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    layout = assemble(tmp_path, "image", "--base", str(base), "--layer", make_layer(tmp_path, "two"))
    types = [entry["mediaType"] for entry in manifest_of(layout)["layers"]]
    assert types == ["application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar+zstd"]


def refuse(tmp_path: Path, message: str, *options: str, error: type[MfbazelError] = ImageError) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error, match=message):
        assemble(tmp_path, "bad", *options)
    assert sorted(tmp_path.iterdir()) == before


def test_unusable_inputs_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    layer = make_layer(tmp_path, "one")
    blob, descriptor = layer.split("=")
    base = str(assemble(tmp_path, "base", "--layer", layer))
    refuse(tmp_path, "is not an OCI image layout", "--base", str(tmp_path))
    refuse(tmp_path, "--os comes from the base", "--base", base, "--os", "linux")
    refuse(tmp_path, "both --os and --architecture are needed", "--os", "linux")
    refuse(tmp_path, "BLOB=DESCRIPTOR is expected", "--layer", blob)
    refuse(tmp_path, "gone.tar cannot be read", "--layer", f"{tmp_path}/gone.tar={descriptor}")
    refuse(tmp_path, "cannot read the layer descriptor", "--layer", f"{blob}={tmp_path}/gone.json", error=LayerError)
    refuse(tmp_path, "does not describe .*base.sha256: it says", "--layer", f"{tmp_path}/base.sha256={descriptor}")
    refuse(tmp_path, r"--env, line 1: KEY=VALUE is expected, not 'PATH'", "--env", "PATH")
    ports, created = lines(tmp_path / "ports", "http"), lines(tmp_path / "created", "yesterday")
    refuse(tmp_path, "exposed port 'http'", "--exposed-ports-file", ports)
    refuse(tmp_path, "'yesterday' is not a time", "--created-file", created)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious").write_text("x")
    with pytest.raises(ImageError, match="exists and is not an OCI layout"):
        assemble(tmp_path, "other")
    assert (tmp_path / "other" / "precious").read_text() == "x"


@pytest.mark.parametrize("field", ["digest", "diffID", "size", "mediaType"])
def test_malformed_descriptor_is_named_with_its_field(tmp_path: Path, field: str) -> None:
    layer = make_layer(tmp_path, "one")
    path = tmp_path / "one.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: "abc"}))
    refuse(tmp_path, rf"one\.json is not a layer descriptor: {field} is 'abc'", "--layer", layer, error=LayerError)


def test_damaged_base_is_refused(tmp_path: Path) -> None:
    base = assemble(tmp_path, "base")
    config = base / "blobs" / "sha256" / manifest_of(base)["config"]["digest"].removeprefix("sha256:")
    config.write_text(config.read_text() + " ")
    refuse(tmp_path, "is damaged: its digest is", "--base", str(base))
    config.unlink()
    refuse(tmp_path, "Is the layout complete", "--base", str(base))


def test_more_layers_than_runtimes_accept_are_refused(tmp_path: Path) -> None:
    layer = make_layer(tmp_path, "one")
    base = str(assemble(tmp_path, "base", *["--layer", layer] * 100))
    assert assemble(tmp_path, "full", "--base", base, *["--layer", layer] * 25)
    refuse(tmp_path, r"126 layers \(100 from the base\); container", "--base", base, *["--layer", layer] * 26)


def test_existing_layout_is_replaced_whole(tmp_path: Path) -> None:
    assemble(tmp_path, "image", "--layer", make_layer(tmp_path, "one"))
    layout = assemble(tmp_path, "image", "--layer", make_layer(tmp_path, "two"))
    digest = json.loads((tmp_path / "one.json").read_text())["digest"].removeprefix("sha256:")
    assert not (layout / "blobs" / "sha256" / digest).is_symlink()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def tarball(tmp_path: Path, layout: Path, *options: str) -> dict[str, bytes]:
    out = tmp_path / "image.tar"
    main(["tarball", "--layout", str(layout), "--out", str(out), *options])
    with tarfile.open(fileobj=io.BytesIO(out.read_bytes())) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}  # type: ignore[union-attr]


def test_docker_archive_names_config_layers_and_tags(tmp_path: Path) -> None:
    layout = assemble(tmp_path, "image", "--layer", make_layer(tmp_path, "one", "gzip"))
    tags = lines(tmp_path / "tags", "churn:v2")
    files = tarball(tmp_path, layout, "--format", "docker", "--tag", "localhost:5000/churn:v1", "--tags-file", tags)
    (entry,) = json.loads(files["manifest.json"])
    assert entry["RepoTags"] == ["localhost:5000/churn:v1", "churn:v2"]
    assert json.loads(files[entry["Config"]]) == config_of(layout)
    assert [files[name] for name in entry["Layers"]] == [(tmp_path / "one.tar").read_bytes()]


def test_oci_archive_is_a_complete_layout(tmp_path: Path) -> None:
    layout = assemble(tmp_path, "image", "--layer", make_layer(tmp_path, "one"))
    files = tarball(tmp_path, layout, "--format", "oci", "--tag", "churn:v1")
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "churn:v1"
    for name, data in files.items():
        if name.startswith("blobs/"):
            assert hashlib.sha256(data).hexdigest() == name.rpartition("/")[2]
    manifest = json.loads(files[f"blobs/sha256/{entry['digest'].removeprefix('sha256:')}"])
    wanted = {manifest["config"]["digest"], entry["digest"], *(layer["digest"] for layer in manifest["layers"])}
    assert {f"sha256:{name.rpartition('/')[2]}" for name in files if name.startswith("blobs/")} == wanted
    with pytest.raises(ImageError, match="carries one name, not 2"):
        tarball(tmp_path, layout, "--format", "oci", "--tag", "churn:v1", "--tag", "churn:v2")


def test_docker_archive_of_zstd_layers_is_refused_with_the_way_out(tmp_path: Path) -> None:
    layout = assemble(tmp_path, "image", "--layer", make_layer(tmp_path, "one"))
    with pytest.raises(ImageError, match=r"zstd, which Docker's archive format cannot hold.*--format oci"):
        tarball(tmp_path, layout, "--format", "docker", "--tag", "churn:v1")
    assert not (tmp_path / "image.tar").exists()


def test_damaged_layer_does_not_get_into_an_archive(tmp_path: Path) -> None:
    layout = assemble(tmp_path, "image", "--layer", make_layer(tmp_path, "one"))
    blob = tmp_path / "one.tar"
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    with pytest.raises(ImageError, match="is damaged"):
        tarball(tmp_path, layout, "--format", "oci", "--tag", "churn:v1")
    with pytest.raises(ImageError, match="'churn' is not of the form NAME:TAG"):
        tarball(tmp_path, layout, "--format", "oci", "--tag", "churn")
    assert not list(tmp_path.glob("*image.tar*"))


def test_the_image_of_a_platform_is_taken_out_of_an_index_as_it_is(tmp_path: Path) -> None:
    index, taken = two_platforms(tmp_path), tmp_path / "taken"
    main(["base", "--base", str(index), "--platform", "linux/arm64", "--output", str(taken)])
    alone = tmp_path / "i-arm64"
    assert json.loads((taken / "index.json").read_text()) == json.loads((alone / "index.json").read_text())
    assert config_of(taken) == config_of(alone)
    for layer in manifest_of(taken)["layers"]:
        blob = taken / "blobs" / "sha256" / layer["digest"].removeprefix("sha256:")
        assert blob.is_symlink()
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    main(["files", "--base", str(taken), "--output", str(tmp_path / "files.json")])
    assert json.loads((tmp_path / "files.json").read_text()) == {"arm64.txt": ""}


def test_a_base_that_the_policy_does_not_allow_is_refused_with_its_digests(tmp_path: Path) -> None:
    index, taken, rules = two_platforms(tmp_path), tmp_path / "taken", tmp_path / "mfbazel.toml"
    digest = digest_of(tmp_path / "i-arm64")
    command = ["base", "--base", str(index), "--label", "x~bases//:arm", "--platform", "linux/arm64"]
    command += ["--output", str(taken), "--policy", str(rules)]
    rules.write_text('contact = "the platform team"\n[allowed]\nbases = ["@python_base"]\n')
    with pytest.raises(
        PolicyError, match=r"not in \[allowed\] bases of mfbazel.toml.*\n.*ask the platform team"
    ) as error:
        main(command)
    assert "the base image @bases//:arm (sha256:" in str(error.value)
    assert digest in str(error.value)
    assert not taken.exists()
    for allowed in (digest, "@bases//:arm", digest_of(index)):
        rules.write_text(f'[allowed]\nbases = ["{allowed}"]\n')
        shutil.rmtree(taken, ignore_errors=True)
        assert main(command) == 0


def digest_of(layout: Path) -> str:
    digest: str = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
    return digest
