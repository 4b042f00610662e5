"""The parts of layer making that need no wheel: bytes, skeleton, existing tars, clashes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import tarfile
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mfbazel.layer import LayerError, Outputs, write_layer
from mfbazel.layer.__main__ import main
from mfbazel.layer.compression import compressor
from mfbazel.layer.output import write_together
from mfbazel.layer.tar import DIRECTORY, FILE, SYMLINK, Content, Entry, blocks
from mfbazel.wheel.paths import unsafe


def noise(size: int) -> bytes:
    """Return reproducible bytes, half of which compress."""
    generator = random.Random(7)
    return b"".join(generator.randbytes(512) + bytes(512) for _ in range(size // 1024))


def compressed(data: bytes, jobs: int) -> bytes:
    stream = compressor("zstd", 3, jobs=jobs)
    parts = (data[i : i + (1 << 20)] for i in range(0, len(data), 1 << 20))
    return b"".join(out for part in parts for out in stream.take(part)) + stream.flush()


def test_number_of_threads_does_not_decide_the_bytes() -> None:
    data = noise(24 << 20)
    one = compressed(data, 1)
    assert one == compressed(data, 2) == compressed(data, 4)
    assert zstandard.ZstdDecompressor().decompressobj().decompress(one) == data


def test_bytes_of_the_formats_are_those_of_the_first_release(tmp_path: Path) -> None:
    entries = [Entry("opt", DIRECTORY, 0o755), Entry("opt/x", FILE, 0o644, Content(noise(3 << 20)), owner="x==1")]
    found = {}
    for compression in ("none", "zstd"):
        outputs = Outputs(tmp_path / "blob", tmp_path / "descriptor", None)
        found[compression] = write_layer(entries, outputs, compression=compression).digest
    assert found == GOLDEN, "a change of these bytes is a new layer in every registry: intended?"


GOLDEN = {
    "none": "sha256:ad2fdd695d0e8ba812599403c992415852416ee674de161d049a39dadbf90a63",
    "zstd": "sha256:1b12ec81576dddf1975c7a47d2ed277b979b1aefad54873e6aa5d919bca52c4e",
}


@pytest.mark.parametrize(("compression", "level"), [("zstd", 0), ("zstd", 20), ("gzip", 10), ("none", 1)])
def test_level_that_does_not_exist_is_refused(compression: str, level: int) -> None:
    with pytest.raises(LayerError, match=f"compression level {level} does not exist for {compression}"):
        compressor(compression, level)


def test_gzip_says_no_time_name_or_system() -> None:
    stream = compressor("gzip", 6)
    data = b"".join(stream.take(b"abc")) + stream.flush()
    assert data[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    assert gzip.decompress(data) == b"abc"
    empty = compressor("gzip", 6)
    assert gzip.decompress(empty.flush()) == b""


COMPONENT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="/\\"), min_size=1, max_size=60
)
PATH = st.lists(COMPONENT, min_size=1, max_size=6).map("/".join).filter(lambda path: unsafe(path) is None)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(PATH, st.binary(max_size=2000), max_size=8), st.integers(1, 4096))
def test_every_archive_reads_back(files: dict[str, bytes], block: int) -> None:
    entries = [Entry(path, FILE, 0o644, Content(data)) for path, data in files.items()]
    entries += [Entry("link", SYMLINK, 0o777, link="t" * 150), Entry("d", DIRECTORY, 0o755)]
    pieces = list(blocks(entries, block))
    assert all(len(piece) >= block for piece in pieces[:-1])
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        found = [(m.name, archive.extractfile(m).read()) for m in archive if m.isfile()]  # type: ignore[union-attr]
        link, directory = archive.getmembers()[-2:]
    assert found == list(files.items())
    assert (link.linkname, directory.isdir()) == ("t" * 150, True)


def test_paths_of_ascii_and_moderate_length_need_no_extension() -> None:
    for path in ("a" * 100, "p" * 155 + "/" + "n" * 100, "d" * 90 + "/" + "e" * 90):
        data = b"".join(blocks([Entry(path)], 512))
        assert data[156:157] == b"0", path
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            assert archive.getnames() == [path]


@settings(deadline=None)
@given(st.text(max_size=40))
def test_no_path_that_passes_leaves_its_directory(path: str) -> None:
    if unsafe(path) is None:
        assert not path.startswith("/")
        assert all(part not in ("", ".", "..") for part in path.split("/"))


def skeleton(tmp_path: Path, *options: str) -> list[tarfile.TarInfo]:
    outputs = ["--blob", f"{tmp_path}/v.tar", "--descriptor", f"{tmp_path}/v.json", "--files", f"{tmp_path}/v.tsv"]
    main(["venv", "--python", "3.14", "--compression", "none", *outputs, *options])
    with tarfile.open(tmp_path / "v.tar") as archive:
        config = archive.extractfile("opt/venv/pyvenv.cfg")
        assert config is not None
        system = b"true" if "--system-packages" in options else b"false"
        assert config.read() == b"home = /usr/bin\ninclude-system-site-packages = %b\nversion = 3.14\n" % system
        return archive.getmembers()


def test_skeleton_links_to_the_interpreter_of_the_base(tmp_path: Path) -> None:
    found = {member.name: member for member in skeleton(tmp_path, "--interpreter", "/usr/bin/python3.14")}
    links = {name.removeprefix("opt/venv/"): member.linkname for name, member in found.items() if member.issym()}
    assert links == {
        "bin/python": "/usr/bin/python3.14",
        "bin/python3": "python",
        "bin/python3.14": "python",
        "lib64": "lib",
    }
    assert found["opt/venv/lib/python3.14/site-packages"].isdir()
    assert "opt/venv/bin/python\t-> /usr/bin/python3.14\tmfbazel-venv\n" in (tmp_path / "v.tsv").read_text()


def test_skeleton_can_let_the_packages_of_the_base_be_imported(tmp_path: Path) -> None:
    assert skeleton(tmp_path, "--interpreter", "/usr/bin/python3.14", "--system-packages")


@pytest.mark.parametrize("path", ["python3", "/usr/bin/../bin/python3", "/opt/venv/bin/python", "/usr/bin/python\n"])
def test_interpreter_that_cannot_be_one_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(LayerError, match="interpreter"):
        skeleton(tmp_path, "--interpreter", path)


def plain_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("./app/main.py")
        info.size = 5
        archive.addfile(info, io.BytesIO(b"hello"))
        for kind, name, target in (
            (tarfile.SYMTYPE, "app/link", "main.py"),
            (tarfile.LNKTYPE, "app/hard", "./app/main.py"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    return buffer.getvalue()


def two_gzip_members(data: bytes) -> bytes:
    return gzip.compress(data[:700]) + gzip.compress(data[700:])


def two_zstd_frames(data: bytes) -> bytes:
    return b"".join(zstandard.ZstdCompressor().compress(part) for part in (data[:700], data[700:]))


@pytest.mark.parametrize(
    ("pack", "suffix"),
    [(bytes, ""), (two_gzip_members, "+gzip"), (gzip.compress, "+gzip"), (two_zstd_frames, "+zstd")],
)
def test_existing_tars_are_described(tmp_path: Path, pack: object, suffix: str) -> None:
    tar = plain_tar()
    blob = pack(tar)  # type: ignore[operator]
    path = tmp_path / "app.tar"
    path.write_bytes(blob)
    arguments = ["tar", "--blob-in", str(path), "--descriptor", f"{tmp_path}/d.json", "--files", f"{tmp_path}/f.tsv"]
    main([*arguments, "--distribution", "//app"])
    assert json.loads((tmp_path / "d.json").read_text()) == {
        "mediaType": f"application/vnd.oci.image.layer.v1.tar{suffix}",
        "digest": f"sha256:{hashlib.sha256(blob).hexdigest()}",
        "size": len(blob),
        "diffID": f"sha256:{hashlib.sha256(tar).hexdigest()}",
    }
    digest = hashlib.sha256(b"hello").hexdigest()
    assert (tmp_path / "f.tsv").read_text() == (
        f"app/hard\t{digest}\t//app\napp/link\t-> main.py\t//app\napp/main.py\t{digest}\t//app\n"
    )


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_tar_that_ends_too_early_is_refused(tmp_path: Path, pack: object) -> None:
    path = tmp_path / "short.tar"
    path.write_bytes(pack(plain_tar())[:-9])  # type: ignore[operator]
    with pytest.raises(LayerError, match=r"short\.tar: .*ends too early"):
        main(["tar", "--blob-in", str(path), "--descriptor", f"{tmp_path}/d.json"])
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_and_missing_tars_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.tar"
    path.write_bytes(b"\x1f\x8b" + b"x" * 100)
    with pytest.raises(LayerError, match="damaged gzip data"):
        main(["tar", "--blob-in", str(path), "--descriptor", f"{tmp_path}/d.json"])
    path.write_bytes(b"x" * 1000)
    with pytest.raises(LayerError, match="not a tar archive"):
        main(["tar", "--blob-in", str(path), "--descriptor", f"{tmp_path}/d.json", "--files", f"{tmp_path}/f.tsv"])
    with pytest.raises(LayerError, match="cannot read"):
        main(["tar", "--blob-in", f"{tmp_path}/none.tar", "--descriptor", f"{tmp_path}/d.json"])


def described(tmp_path: Path, tar: bytes) -> str:
    """Return the file list of a tar."""
    source = tmp_path / "some.tar"
    source.write_bytes(tar)
    main(["tar", "--blob-in", str(source), "--descriptor", f"{tmp_path}/d", "--files", f"{tmp_path}/f"])
    return (tmp_path / "f").read_text()


def tar_of(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar with one entry."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        archive.addfile(info)
    return buffer.getvalue()


def sparse(size: int) -> bytes:
    """Return a tar with a file of GNU's sparse type that has ``size`` bytes, none of which is there."""
    block = bytearray(tarfile.TarInfo("holes").tobuf(tarfile.GNU_FORMAT))
    block[156:157] = b"S"
    block[386:410] = b"00000000000\0" * 2
    block[483:495] = b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + bytes(1024)


@pytest.mark.parametrize(
    ("tar", "expected"),
    [
        (tar_of("a\nb"), r"'a\\nb'.*cannot be listed"),
        (tar_of("a\tb"), r"'a\\tb'.*cannot be listed"),
        (tar_of("a", tarfile.SYMTYPE, "b\nc"), r"b\\nc.*cannot be listed"),
        (tar_of("caf\udce9", form=tarfile.GNU_FORMAT), r"caf\\udce9.*not UTF-8"),
        (tar_of("../etc/passwd"), r"some\.tar: '\.\./etc/passwd' leaves its directory"),
        (tar_of("a/../../etc/passwd", tarfile.DIRTYPE), "leaves its directory"),
        (sparse(8 << 30), "'holes' is a sparse file"),
    ],
)
def test_tars_whose_names_or_files_are_not_understood_alike_are_refused(
    tmp_path: Path, tar: bytes, expected: str
) -> None:
    with pytest.raises(LayerError, match=expected):
        described(tmp_path, tar)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["some.tar"]


def test_a_path_of_a_tar_is_listed_as_it_is_unpacked(tmp_path: Path) -> None:
    assert described(tmp_path, tar_of("/./opt//venv/./bin/python", tarfile.SYMTYPE, "x")) == (
        "opt/venv/bin/python\t-> x\tsome.tar\n"
    )


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor(level=19).compress])
def test_a_tar_that_unpacks_to_very_much_takes_little_memory(tmp_path: Path, pack: object) -> None:
    source = tmp_path / "some.tar"
    source.write_bytes(pack(tar_of("a") + bytes(200 << 20)))  # type: ignore[operator]
    tracemalloc.start()
    try:
        main(["tar", "--blob-in", str(source), "--descriptor", f"{tmp_path}/d", "--files", f"{tmp_path}/f"])
        assert tracemalloc.get_traced_memory()[1] < 160 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_an_extended_header_that_claims_very_much_is_not_taken_into_memory(tmp_path: Path, kind: bytes) -> None:
    head = tarfile.TarInfo("x")
    head.type, head.size = kind, 100 << 20
    source = tmp_path / "some.tar"
    source.write_bytes(zstandard.compress(head.tobuf(tarfile.GNU_FORMAT) + bytes(100 << 20) + tar_of("a")))
    arguments = ["tar", "--blob-in", str(source), "--descriptor", f"{tmp_path}/d", "--files", f"{tmp_path}/f"]
    with pytest.raises(LayerError, match="an extended header has 104857600 bytes; at most 1048576 are expected"):
        main(arguments)


def test_a_link_at_the_place_where_an_output_is_begun_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    beside = tmp_path / f".out.{os.getpid()}.part"
    beside.symlink_to(victim)
    write_together({tmp_path / "out": b"content"})
    assert victim.read_text() == "precious"
    assert (tmp_path / "out").read_bytes() == b"content"
    assert not (tmp_path / "out").is_symlink()
    assert not beside.exists()


def tsv(tmp_path: Path, name: str, *lines: tuple[str, str, str]) -> str:
    path = tmp_path / f"{name}.files.tsv"
    path.write_text("".join("\t".join(line) + "\n" for line in lines))
    return str(path)


def test_layers_that_agree_pass(tmp_path: Path) -> None:
    one = tsv(tmp_path, "one", ("a/x", "1", "one==1"), ("a/y", "2", "one==1"))
    two = tsv(tmp_path, "two", ("a/x", "1", "two==1"), ("b", "-> a", "two==1"))
    assert main(["clashes", "--image", "train", "--output", str(tmp_path / "ok"), one, two, tsv(tmp_path, "none")]) == 0
    assert (tmp_path / "ok").read_text() == "3 files, no clash\n"


def test_layers_that_disagree_are_refused_with_both_names_path_and_image(tmp_path: Path) -> None:
    one = tsv(tmp_path, "one", ("a/x", "1", "one==1"))
    two = tsv(tmp_path, "two", ("a/x", "2", "two==1"))
    with pytest.raises(LayerError) as caught:
        main(["clashes", "--image", "//flows:churn.train", "--output", str(tmp_path / "ok"), one, two])
    assert "one==1 and two==1 both install /a/x in image //flows:churn.train, with different content" in str(
        caught.value
    )
    assert not (tmp_path / "ok").exists()


def test_file_where_another_layer_has_a_directory_is_refused(tmp_path: Path) -> None:
    one = tsv(tmp_path, "one", ("a/x/y", "1", "one==1"))
    two = tsv(tmp_path, "two", ("a/x", "-> z", "two==1"))
    with pytest.raises(
        LayerError, match="two==1 and one==1 both install /a/x, as a file and as the directory of a/x/y"
    ):
        main(["clashes", one, two])


def test_malformed_file_list_is_named_with_its_line(tmp_path: Path) -> None:
    path = tsv(tmp_path, "one", ("a", "1", "one"), ("a", "1", "one\tmore"))
    with pytest.raises(LayerError, match=r"one\.files\.tsv:2: three columns are expected"):
        main(["clashes", path])


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_an_existing_tar_becomes_a_layer_of_the_same_content(tmp_path: Path, compression: str) -> None:
    source = tmp_path / "files.tar"
    with tarfile.open(source, "w") as archive:
        member = tarfile.TarInfo("opt/model.bin")
        member.size = 3 << 20
        archive.addfile(member, io.BytesIO(noise(member.size)))
    blob, descriptor, files = tmp_path / "blob", tmp_path / "descriptor.json", tmp_path / "files.tsv"
    outputs = ["--blob", str(blob), "--descriptor", str(descriptor), "--files", str(files)]
    main(["tar", "--blob-in", str(source), "--compression", compression, "--distribution", "ours", *outputs])
    described = json.loads(descriptor.read_text())
    assert described["diffID"] == f"sha256:{hashlib.sha256(source.read_bytes()).hexdigest()}"
    assert described["digest"] == f"sha256:{hashlib.sha256(blob.read_bytes()).hexdigest()}"
    assert described["size"] == blob.stat().st_size
    assert files.read_text() == f"opt/model.bin\t{hashlib.sha256(noise(3 << 20)).hexdigest()}\tours\n"
    main(["tar", "--blob-in", str(blob), "--descriptor", str(tmp_path / "again.json")])
    assert (tmp_path / "again.json").read_text() == descriptor.read_text()


def test_a_damaged_tar_leaves_no_layer_behind(tmp_path: Path) -> None:
    source = tmp_path / "files.tar"
    source.write_bytes(gzip.compress(noise(1 << 20))[:-9])
    outputs = ["--blob", str(tmp_path / "blob"), "--descriptor", str(tmp_path / "descriptor.json")]
    with pytest.raises(LayerError):
        main(["tar", "--blob-in", str(source), *outputs])
    assert [path.name for path in tmp_path.iterdir()] == ["files.tar"]
