"""Layers become directories, and these the root of an image, as the image-spec says."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tarfile
from pathlib import Path

import pytest

from mfbazel.container.errors import ContainerError
from mfbazel.container.layout import read_image
from mfbazel.container.unpack import MOUNT_FILES, unpack_image
from tests.container.layouts import Members, write_index, write_layout


def unpack(directory: Path, *layers: Members | bytes, compression: str = "") -> Path:
    """Return the root directory of an image of ``layers``."""
    layout = write_layout(directory / f"layout{len(list(directory.iterdir()))}", layers, compression=compression)
    return unpack_image(read_image(layout), directory / "cache", lambda _: None)


def tree(root: Path) -> dict[str, str]:
    """Return the content of every file below ``root``, and the target of every link."""
    return {
        str(path.relative_to(root)): f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
        if str(path.relative_to(root)) not in MOUNT_FILES
    }


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
def test_files_have_their_content_mode_and_time_whatever_compresses_the_layer(tmp_path: Path, compression: str) -> None:
    layer = Members().directory("./bin").file("./bin/run", "code", mode=0o4755).symlink("./bin/link", "run")
    root = unpack(tmp_path, layer, compression=compression)
    assert tree(root) == {"bin/run": "code", "bin/link": "-> run"}
    status = (root / "bin" / "run").stat()
    assert stat.S_IMODE(status.st_mode) == 0o755  # who runs it is not its owner
    assert (status.st_mtime, status.st_uid) == (1_000_000, os.getuid())


def test_a_later_layer_replaces_files(tmp_path: Path) -> None:
    assert tree(unpack(tmp_path, Members().file("a", "1").file("b", "1"), Members().file("a", "2"))) == {
        "a": "2",
        "b": "1",
    }


def test_a_whiteout_removes_a_file_a_directory_and_a_link_of_lower_layers(tmp_path: Path) -> None:
    lower = Members().file("d/file").file("d/kept", "k").file("d/sub/deep").symlink("d/link", "/nowhere")
    upper = Members().file("d/.wh.file").file("d/.wh.sub").file("d/.wh.link").file("d/.wh.never-there")
    assert tree(unpack(tmp_path, lower, upper)) == {"d/kept": "k"}


def test_a_whiteout_does_not_remove_what_its_own_layer_adds(tmp_path: Path) -> None:
    upper = Members().file("d/new", "2").file("d/.wh.new")
    assert tree(unpack(tmp_path, Members().file("d/new", "1"), upper)) == {"d/new": "2"}


def test_an_opaque_directory_has_nothing_of_lower_layers(tmp_path: Path) -> None:
    lower = Members().file("d/file").file("d/sub/deep").file("other", "o")
    upper = Members().directory("d").file("d/.wh..wh..opq").file("d/sub/new", "n")
    assert tree(unpack(tmp_path, lower, upper)) == {"d/sub/new": "n", "other": "o"}


def test_a_directory_takes_the_place_of_a_file_and_a_file_that_of_a_directory(tmp_path: Path) -> None:
    lower = Members().file("a").file("b/inner")
    upper = Members().directory("a").file("a/inner", "i").file("b", "now a file")
    assert tree(unpack(tmp_path, lower, upper)) == {"a/inner": "i", "b": "now a file"}


def test_a_file_reaches_its_place_through_a_link_of_a_lower_layer(tmp_path: Path) -> None:
    lower = Members().directory("usr/lib").file("usr/lib/old", "o").symlink("lib", "usr/lib")
    assert tree(unpack(tmp_path, lower, Members().file("lib/new", "n"))) == {
        "lib": "-> usr/lib",
        "usr/lib/old": "o",
        "usr/lib/new": "n",
    }


def test_a_directory_that_a_layer_names_takes_the_place_of_a_link(tmp_path: Path) -> None:
    lower = Members().directory("usr/lib").symlink("lib", "usr/lib")
    assert tree(unpack(tmp_path, lower, Members().directory("lib").file("lib/new", "n"))) == {"lib/new": "n"}


def test_hard_links_are_one_file_and_stay_when_the_other_name_goes(tmp_path: Path) -> None:
    lower = Members().file("a", "x").hardlink("b", "a")
    root = unpack(tmp_path, lower, Members().file("c", "y").hardlink("d", "./c"))
    assert tree(root) == {"a": "x", "b": "x", "c": "y", "d": "y"}
    assert (root / "a").samefile(root / "b") and (root / "c").samefile(root / "d")
    assert tree(unpack(tmp_path, lower.data(), Members().file(".wh.a"))) == {"b": "x"}


def test_images_share_the_files_of_a_layer_that_they_share(tmp_path: Path) -> None:
    shared = Members().file("big", "b" * 1000).data()
    roots = [unpack(tmp_path, shared, Members().file("own", str(number))) for number in range(2)]
    assert (roots[0] / "big").samefile(roots[1] / "big")
    assert [(root / "own").read_text() for root in roots] == ["0", "1"]
    assert len(list((tmp_path / "cache" / "layers").iterdir())) == 3


def test_an_image_that_was_unpacked_is_not_unpacked_again(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", [Members().file("a", "1")])
    image = read_image(layout)
    root = unpack_image(image, tmp_path / "cache", lambda _: None)
    for layer in image.layers:
        layer.blob.unlink()
    assert unpack_image(image, tmp_path / "cache", lambda _: None) == root


def test_where_the_file_system_has_no_hard_links_files_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    root = unpack(tmp_path, Members().file("a", "1").symlink("b", "a"))
    assert tree(root) == {"a": "1", "b": "-> a"}


@pytest.mark.parametrize("name", ["../outside", "a/../../outside"])
def test_a_path_that_leaves_the_layer_is_refused_and_nothing_stays(tmp_path: Path, name: str) -> None:
    with pytest.raises(ContainerError, match="has a path that leaves it"):
        unpack(tmp_path, Members().file(name, "x"))
    assert list(tmp_path.glob("**/outside")) == []
    assert list((tmp_path / "cache" / "layers").iterdir()) == []


@pytest.mark.parametrize("target", ["/", "../../../..", "/etc"])
def test_a_link_out_of_the_layer_leads_back_into_it(tmp_path: Path, target: str) -> None:
    outside = tmp_path / "outside"
    root = unpack(tmp_path, Members().symlink("escape", target).file("escape/mfbazel-test", "x"))
    assert not outside.exists()
    assert not Path("/mfbazel-test").exists() and not Path("/etc/mfbazel-test").exists()
    assert (root / target.strip("./") / "mfbazel-test").read_text() == "x"


def test_a_hard_link_to_a_file_outside_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContainerError, match="is a link to /etc/passwd, which is not there"):
        unpack(tmp_path, Members().hardlink("a", "/etc/passwd"))


def test_devices_are_left_out_and_directories_stay_writable_to_their_owner(tmp_path: Path) -> None:
    root = unpack(tmp_path, Members().device("dev/null").directory("locked", mode=0o555).file("locked/a", "1", mode=0))
    assert tree(root) == {"locked/a": "1"}
    assert not (root / "dev" / "null").exists()


def test_the_machines_files_have_a_place_even_where_the_image_has_links_there(tmp_path: Path) -> None:
    root = unpack(tmp_path, Members().symlink("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"))
    for name in MOUNT_FILES:
        assert (root / name).is_file() and not (root / name).is_symlink()
    assert (root / "proc").is_dir()


def test_a_layer_with_other_content_than_the_image_says_is_refused(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", [Members().file("a", "1")])
    image = read_image(layout)
    image.layers[0].blob.write_bytes(Members().file("a", "2").data())
    with pytest.raises(ContainerError, match="is damaged: its diff ID is sha256:"):
        unpack_image(image, tmp_path / "cache", lambda _: None)
    assert list((tmp_path / "cache" / "layers").iterdir()) == []


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
@pytest.mark.parametrize("kept", [0, 40])
def test_a_layer_that_nobody_can_read_is_named(tmp_path: Path, compression: str, kept: int) -> None:
    image = read_image(write_layout(tmp_path / "layout", [Members().file("a", "1" * 4096)], compression=compression))
    blob = image.layers[0].blob
    blob.write_bytes(blob.read_bytes()[:kept] + b"\xa5" * 2000)
    with pytest.raises(ContainerError, match=rf"{blob.name} is damaged"):
        unpack_image(image, tmp_path / "cache", lambda _: None)
    assert list((tmp_path / "cache" / "layers").iterdir()) == []


def test_a_layer_whose_extended_header_is_nonsense_is_named(tmp_path: Path) -> None:
    blob = Members().file("a", "1").data()
    header = tarfile.TarInfo("pax")
    record = b"30 GNU.sparse.map=1,2,3,4,x,6\n"
    header.type, header.size = tarfile.XHDTYPE, len(record)
    layer = header.tobuf() + record.ljust(512, b"\0") + blob
    with pytest.raises(ContainerError, match="is damaged"):
        unpack(tmp_path, layer)


def test_what_an_interrupted_one_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "cache" / "layers" / ".half"
    left.mkdir(parents=True)
    left.joinpath("file").touch()
    unpack(tmp_path, Members().file("a"))
    assert not left.exists()


def test_of_an_index_the_image_of_this_machine_is_read(tmp_path: Path) -> None:
    images = {
        architecture: write_layout(
            tmp_path / architecture, [Members().file("a", architecture)], architecture=architecture
        )
        for architecture in ("amd64", "arm64")
    }
    layout = write_index(tmp_path / "index", images)
    image = read_image(layout, "arm64")
    assert tree(unpack_image(image, tmp_path / "cache", lambda _: None)) == {"a": "arm64"}
    assert image.digest != image.manifest_digest
    with pytest.raises(ContainerError, match="is for linux/amd64, linux/arm64, and this machine is linux/riscv64"):
        read_image(layout, "riscv64")


def test_a_blob_that_is_gone_is_named_with_what_to_do(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", [Members().file("a")])
    read_image(layout).layers[0].blob.unlink()
    with pytest.raises(ContainerError, match=r"lacks the blob sha256:.*--remote_download_outputs=all"):
        read_image(layout)


@pytest.mark.parametrize("digest", ["sha256:../../../secret", "sha256:" + "0" * 63, "../secret", "/secret"])
def test_a_digest_that_is_a_path_names_no_file(tmp_path: Path, digest: str) -> None:
    tmp_path.joinpath("secret").write_text('{"config": {}}')
    layout = write_layout(tmp_path / "layout", [Members().file("a")])
    layout.joinpath("index.json").write_text(json.dumps({"manifests": [{"digest": digest, "size": 1}]}))
    with pytest.raises(ContainerError, match="is no sha256 digest"):
        read_image(layout)


def test_a_diff_id_that_is_a_path_names_no_directory(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", [Members().file("a")])
    found = read_image(layout)
    config = layout / "blobs" / found.config_digest.replace(":", "/")
    text = config.read_text().replace(found.layers[0].diff_id, "sha256:../../../../etc")
    digest = hashlib.sha256(text.encode()).hexdigest()
    config.with_name(digest).write_text(text)
    manifest = layout / "blobs" / found.manifest_digest.replace(":", "/")
    changed = manifest.read_text().replace(found.config_digest, f"sha256:{digest}")
    name = hashlib.sha256(changed.encode()).hexdigest()
    manifest.with_name(name).write_text(changed)
    layout.joinpath("index.json").write_text(json.dumps({"manifests": [{"digest": f"sha256:{name}", "size": 1}]}))
    with pytest.raises(ContainerError, match="is no diff ID"):
        read_image(layout)


def test_a_configuration_that_was_changed_is_refused(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", [Members().file("a")])
    config = layout / "blobs" / read_image(layout).config_digest.replace(":", "/")
    config.write_text(json.dumps({**json.loads(config.read_text()), "author": "another"}))
    with pytest.raises(ContainerError, match="has another digest"):
        read_image(layout)
