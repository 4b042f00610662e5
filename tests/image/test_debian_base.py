"""The base layer from Debian packages, which are made here as real archives."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from mfbazel.image import ImageError
from mfbazel.image.__main__ import main
from mfbazel.layer import LayerError

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    ".xz": lzma.compress,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor().compress,
    "": bytes,
}
Item = bytes | str | tuple[str, str]
"""Content of a file, target of a symlink, or ("hard", target); a name that ends with / is a directory."""


def tar_of(files: dict[str, Item], modes: dict[str, int]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, item in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.mtime = 1234567890
            info.mode = modes.get(name, 0o755 if name.endswith("/") else 0o644)
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
            elif isinstance(item, str):
                info.type, info.linkname = tarfile.SYMTYPE, item
            elif isinstance(item, tuple):
                info.type, info.linkname = tarfile.LNKTYPE, f"./{item[1]}"
            else:
                info.size = len(item)
            archive.addfile(info, io.BytesIO(item if isinstance(item, bytes) else b""))
    return buffer.getvalue()


def member(name: str, data: bytes) -> bytes:
    return f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)


def make_deb(
    directory: Path,
    name: str,
    files: dict[str, Item],
    *,
    version: str = "1.0-1",
    architecture: str = "amd64",
    suffix: str = ".xz",
    modes: dict[str, int] | None = None,
    extra: str = "",
    control_files: dict[str, Item] | None = None,
) -> Path:
    control = (
        f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n{extra}Description: a test\n with more\n"
    )
    members = {"control": control.encode(), **(control_files or {})}
    path = directory / f"{name}_{version}_{architecture}.deb"
    path.write_bytes(
        b"!<arch>\n"
        + member("debian-binary", b"2.0\n")
        + member("control.tar.gz", gzip.compress(tar_of(members, {})))
        + member(f"data.tar{suffix}", COMPRESSORS[suffix](tar_of(files, modes or {})))
    )
    return path


def python_deb(directory: Path, suffix: str = ".xz") -> Path:
    files: dict[str, Item] = {"usr/": b"", "usr/bin/": b"", "usr/bin/python3.14": b"\x7fELF"}
    return make_deb(directory, "python3.14", files, suffix=suffix)


def base(
    tmp_path: Path, *debs: Path, out: str = "out", python: str = "3.14"
) -> tuple[Path, dict[str, tarfile.TarInfo], dict[str, bytes]]:
    """Run the front; return the directory of outputs, the members and the contents of the layer."""
    target = tmp_path / out
    target.mkdir(exist_ok=True)
    options = [item for deb in debs for item in ("--deb", str(deb))]
    outputs = ["--blob", f"{target}/b.tar", "--descriptor", f"{target}/b.json", "--files", f"{target}/b.tsv"]
    main(["debian", "--python", python, "--compression", "none", *outputs, "--packages", f"{target}/p.json", *options])
    with tarfile.open(target / "b.tar") as archive:
        members = archive.getmembers()
        names = [info.name for info in members]
        assert len(names) == len(set(names)), "every path once"
        for name in names:
            parent = name.rpartition("/")[0]
            assert not parent or parent in names[: names.index(name)], f"the directory of {name} comes first"
        contents = {info.name: archive.extractfile(info).read() for info in members if info.isreg()}  # type: ignore[union-attr]
    return target, {info.name: info for info in members}, contents


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_packages_of_every_compression_are_read(tmp_path: Path, suffix: str) -> None:
    _, members, contents = base(tmp_path, python_deb(tmp_path, suffix=suffix))
    assert contents["usr/bin/python3.14"] == b"\x7fELF"
    assert members["usr/bin/python3.14"].mtime == 946684800


def test_interpreter_has_the_names_that_callers_use(tmp_path: Path) -> None:
    _, members, _ = base(tmp_path, python_deb(tmp_path))
    assert members["usr/bin/python"].linkname == members["usr/bin/python3"].linkname == "python3.14"
    for name in ("python", "python3", "python3.14"):
        assert members[f"usr/local/bin/{name}"].linkname == "/usr/bin/python3.14"
    assert members["tmp"].mode == 0o1777
    assert members["root"].mode == 0o700


def test_files_outside_usr_go_where_merged_usr_has_them(tmp_path: Path) -> None:
    files: dict[str, Item] = {"bin/": b"", "bin/tool": b"t", "lib/": b"", "lib/x.so": b"x", "sbin/": b"", "usr/": b""}
    more: dict[str, Item] = {"usr/bin/": b"", "usr/lib/": b"", "usr/sbin/": b"", **files}
    _, members, contents = base(tmp_path, python_deb(tmp_path), make_deb(tmp_path, "old", more))
    assert contents["usr/bin/tool"] == b"t"
    assert contents["usr/lib/x.so"] == b"x"
    assert {name: members[name].linkname for name in ("bin", "lib", "sbin")} == {
        "bin": "usr/bin",
        "lib": "usr/lib",
        "sbin": "usr/sbin",
    }


def test_links_of_base_files_are_kept_and_come_first(tmp_path: Path) -> None:
    files: dict[str, Item] = {"bin": "usr/bin", "usr/": b"", "usr/bin/": b"", "var/": b"", "var/run/": b"", "run/": b""}
    deb = make_deb(tmp_path, "base-files", files)
    _, members, _ = base(tmp_path, make_deb(tmp_path, "aaa", {"bin/": b"", "bin/x": b""}), python_deb(tmp_path), deb)
    assert next(iter(members)) == "bin"
    assert (members["bin"].linkname, members["var/run"].linkname) == ("usr/bin", "/run")
    assert "usr/bin/x" in members


def test_order_of_the_files_does_not_decide_the_bytes(tmp_path: Path) -> None:
    debs = [python_deb(tmp_path), make_deb(tmp_path, "a", {"a": b"1"}), make_deb(tmp_path, "base-files", {"etc/": b""})]
    one, _, _ = base(tmp_path, *debs, out="one")
    two, _, _ = base(tmp_path, *reversed(debs), out="two")
    for name in ("b.tar", "b.json", "b.tsv", "p.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_every_package_is_recorded_with_version_and_hash(tmp_path: Path) -> None:
    deb = make_deb(tmp_path, "tzdata", {"x": b""}, version="1:2026f-1", architecture="all")
    target, _, _ = base(tmp_path, python_deb(tmp_path), deb)
    record = json.loads((target / "p.json").read_text())
    assert [package["name"] for package in record["packages"]] == ["python3.14", "tzdata"]
    assert record["packages"][1] == {
        "name": "tzdata",
        "version": "1:2026f-1",
        "architecture": "all",
        "sha256": hashlib.sha256(deb.read_bytes()).hexdigest(),
        "file": deb.name,
    }


def test_scanners_find_the_packages(tmp_path: Path) -> None:
    deb = make_deb(
        tmp_path,
        "libx1",
        {
            "etc/": b"",
            "etc/x.conf": b"c",
            "usr/": b"",
            "usr/share/": b"",
            "usr/share/man/": b"",
            "usr/share/man/x.1": b"",
        },
        extra="Multi-Arch: same\n",
        control_files={
            "conffiles": b"/etc/x.conf\nremove-on-upgrade /etc/y\n",
            "md5sums": b"0  etc/x.conf\n1  usr/share/man/x.1\n",
        },
    )
    _, _, contents = base(tmp_path, python_deb(tmp_path), deb)
    paragraphs = contents["var/lib/dpkg/status"].decode().split("\n\n")
    assert paragraphs[0].startswith(
        "Package: libx1\nStatus: install ok installed\nVersion: 1.0-1\nArchitecture: amd64\nMulti-Arch: same\n"
    )
    assert paragraphs[1].startswith("Package: python3.14\nStatus: install ok installed\n")
    info = "var/lib/dpkg/info/libx1:amd64"
    assert contents[f"{info}.conffiles"] == b"/etc/x.conf\n"
    assert contents[f"{info}.list"] == b"/.\n/etc\n/etc/x.conf\n/usr\n/usr/share\n"
    assert contents[f"{info}.md5sums"] == b"0  etc/x.conf\n", "manual pages are left out, and not missed"


def test_documentation_is_left_out_and_copyright_kept(tmp_path: Path) -> None:
    names = [
        "usr/share/doc/x/copyright",
        "usr/share/doc/x/README",
        "usr/share/man/man1/x.1",
        "usr/share/locale/de/x.mo",
    ]
    directories = sorted({"/".join(name.split("/")[:i]) + "/" for name in names for i in range(1, name.count("/") + 1)})
    files: dict[str, Item] = {**dict.fromkeys(directories, b""), **dict.fromkeys(names, b"")}
    _, members, _ = base(tmp_path, python_deb(tmp_path), make_deb(tmp_path, "x", files))
    assert [name for name in names if name in members] == names[:1]
    assert not any(name.startswith(("usr/share/man", "usr/share/locale")) for name in members)


def test_set_up_of_passwords_certificates_and_alternatives(tmp_path: Path) -> None:
    directories: dict[str, Item] = dict.fromkeys(
        [
            "usr/",
            "usr/bin/",
            "usr/share/",
            "usr/share/base-passwd/",
            "usr/share/ca-certificates/",
            "usr/share/ca-certificates/m/",
        ],
        b"",
    )
    deb = make_deb(
        tmp_path,
        "mixed",
        {
            **directories,
            "usr/share/base-passwd/passwd.master": b"root:*:0:0::/root:/bin/bash\n",
            "usr/share/base-passwd/group.master": b"root:*:0:\n",
            "usr/share/ca-certificates/m/b.crt": b"B\n",
            "usr/share/ca-certificates/m/a.crt": b"A",
            "usr/bin/mawk": b"",
            "usr/bin/which.debianutils": b"",
        },
    )
    _, members, contents = base(tmp_path, python_deb(tmp_path), deb)
    assert contents["etc/passwd"] == b"root:*:0:0::/root:/bin/bash\n"
    assert contents["etc/group"] == b"root:*:0:\n"
    assert contents["etc/ssl/certs/ca-certificates.crt"] == b"A\nB\n"
    assert contents["etc/ca-certificates.conf"] == b"m/a.crt\nm/b.crt\n"
    assert b"hosts: files dns\n" in contents["etc/nsswitch.conf"]
    assert members["usr/bin/awk"].linkname == "/etc/alternatives/awk"
    assert members["etc/alternatives/awk"].linkname == "/usr/bin/mawk"
    assert members["etc/alternatives/which"].linkname == "/usr/bin/which.debianutils"


def test_modes_and_hard_links_are_kept(tmp_path: Path) -> None:
    files: dict[str, Item] = {"bin/": b"", "bin/su": b"s", "bin/su2": ("hard", "bin/su")}
    target, members, _ = base(tmp_path, python_deb(tmp_path), make_deb(tmp_path, "su", files, modes={"bin/su": 0o4755}))
    assert members["usr/bin/su"].mode == 0o4755
    assert (members["usr/bin/su2"].type, members["usr/bin/su2"].linkname) == (tarfile.LNKTYPE, "usr/bin/su")
    digest = hashlib.sha256(b"s").hexdigest()
    assert f"usr/bin/su2\t{digest}\tsu=1.0-1\n" in (target / "b.tsv").read_text()


def refuse(tmp_path: Path, message: str, *debs: Path, python: str = "3.14") -> None:
    with pytest.raises(ImageError, match=message):
        base(tmp_path, *debs, python=python)
    assert list((tmp_path / "out").iterdir()) == []


def test_sets_that_make_no_base_are_refused_by_name(tmp_path: Path) -> None:
    python = python_deb(tmp_path)
    a, b = make_deb(tmp_path, "a", {"x": b"1"}), make_deb(tmp_path, "b", {"x": b"1"})
    refuse(tmp_path, r"a=1\.0-1 and b=1\.0-1 both hold /x", python, a, b)
    refuse(tmp_path, r"none of the 1 packages holds /usr/bin/python3\.14", a)
    refuse(tmp_path, r"holds /usr/bin/python3\.13", python, python="3.13")
    refuse(
        tmp_path,
        r"two packages are named a: a_1\.0-1_amd64\.deb and a_2_amd64\.deb",
        a,
        make_deb(tmp_path, "a", {}, version="2"),
    )
    refuse(tmp_path, "several architectures, amd64, arm64", a, make_deb(tmp_path, "c", {}, architecture="arm64"))
    refuse(tmp_path, "unsafe path './../x'", python, make_deb(tmp_path, "evil", {"../x": b""}))
    with pytest.raises(LayerError, match=r"not a version of the form X\.Y"):
        base(tmp_path, python, python="3")
    with pytest.raises(ImageError, match=r"no \.deb file was given"):
        base(tmp_path)


def test_damaged_packages_are_refused_by_name(tmp_path: Path) -> None:
    python = python_deb(tmp_path)
    data = python.read_bytes()
    for damaged in (b"", b"!<arch>\n", data[: len(data) - 40], data[:60], b"x" + data):
        python.write_bytes(damaged)
        refuse(tmp_path, r"python3\.14_1\.0-1_amd64\.deb is not a Debian package", python)


def test_directory_of_packages_can_be_given(tmp_path: Path) -> None:
    python_deb(tmp_path)
    outputs = ["--blob", f"{tmp_path}/b.tar", "--descriptor", f"{tmp_path}/b.json", "--packages", f"{tmp_path}/p.json"]
    assert main(["debian", "--python", "3.14", *outputs, "--debs", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "b.json").read_text())["mediaType"] == "application/vnd.oci.image.layer.v1.tar+zstd"
