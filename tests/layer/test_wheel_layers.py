"""Layers of wheels: what is installed where, and what is refused. The wheels are made here, as real archives."""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mfbazel.layer import LayerError, read_descriptor
from tests.layer.wheels import SITE, content, environment, layer, make_wheel, members, record_line, unpacked


def test_files_go_where_the_specification_says(tmp_path: Path) -> None:
    wheel = make_wheel(
        tmp_path,
        files={
            "demo/__init__.py": b"",
            "demo-1.0.data/purelib/pure.py": b"p",
            "demo-1.0.data/platlib/plat.so": b"s",
            "demo-1.0.data/scripts/tool": b"#!python -E\nprint()\n",
            "demo-1.0.data/scripts/binary": b"\x7fELF",
            "demo-1.0.data/headers/demo.h": b"h",
            "demo-1.0.data/data/share/demo/x.txt": b"x",
            "demo-1.0.data/data/lib64/y.so": b"y",
        },
    )
    files = unpacked(layer(tmp_path, wheel))
    assert files[f"{SITE}/pure.py"] == b"p"
    assert files[f"{SITE}/plat.so"] == b"s"
    assert files["opt/venv/bin/tool"] == b"#!/opt/venv/bin/python -E\nprint()\n"
    assert files["opt/venv/bin/binary"] == b"\x7fELF"
    assert files["opt/venv/include/site/python3.14/demo/demo.h"] == b"h"
    assert files["opt/venv/share/demo/x.txt"] == b"x"
    assert files["opt/venv/lib/y.so"] == b"y", "lib64 is a link in the skeleton; a directory would hide it"
    assert not any(".data/" in name for name in files)


def test_entry_points_become_scripts_that_run(tmp_path: Path) -> None:
    points = "[console_scripts]\nHello = demo:main\nnested = demo:Group.run [extra]\n[gui_scripts]\nwin = demo:main\n"
    source = b"def main():\n    print('hi')\n    return 3\nclass Group:\n    run = staticmethod(main)\n"
    files = unpacked(layer(tmp_path, make_wheel(tmp_path, files={"demo.py": source}, entry_points=points)))
    assert {name for name in files if "/bin/" in name} == {f"opt/venv/bin/{n}" for n in ("Hello", "nested", "win")}
    (tmp_path / "demo.py").write_bytes(source)
    for name in ("Hello", "nested"):
        script = files[f"opt/venv/bin/{name}"]
        assert script.startswith(b"#!/opt/venv/bin/python\n")
        run = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True
        )
        assert (run.returncode, run.stdout) == (3, b"hi\n")


def test_prebuilt_launchers_of_entry_points_are_left_out(tmp_path: Path) -> None:
    files = {"demo.py": b"", "demo-1.0.data/scripts/hello": b"#!python\nold", "demo-1.0.data/scripts/hello.exe": b"MZ"}
    wheel = make_wheel(tmp_path, files=files, entry_points="[console_scripts]\nhello = demo:main\n")
    scripts = {k: v for k, v in unpacked(layer(tmp_path, wheel)).items() if "/bin/" in k}
    assert list(scripts) == ["opt/venv/bin/hello"]
    assert b"from demo import main" in scripts["opt/venv/bin/hello"]


def test_record_describes_what_is_installed(tmp_path: Path) -> None:
    wheel = make_wheel(
        tmp_path,
        files={"demo.py": b"1", "demo-1.0.data/scripts/tool": b"#!python\n"},
        entry_points="[console_scripts]\nrun = demo:main\n",
    )
    files = unpacked(layer(tmp_path, wheel))
    record = files.pop(f"{SITE}/demo-1.0.dist-info/RECORD").decode()
    assert files[f"{SITE}/demo-1.0.dist-info/INSTALLER"] == b"mfbazel\n"
    assert f"{SITE}/demo-1.0.dist-info/REQUESTED" not in files
    expected = [record_line(os.path.relpath(path, SITE), data) for path, data in files.items()]
    assert record.splitlines(keepends=True) == sorted([*expected, "demo-1.0.dist-info/RECORD,,\n"])


def test_archive_is_canonical(tmp_path: Path) -> None:
    long = "d" * 90 + "/" + "e" * 90
    files = {
        "b.py": b"",
        "a/x.py": b"",
        "bin.sh": b"#!",
        f"{long}/f.py": b"",
        "ümlaut.py": b"u",
        long[:90] + "/" + "g" * 120: b"",
    }
    found = members(layer(tmp_path, make_wheel(tmp_path, files=files, executable=("bin.sh",))))
    names = [member.name for member in found]
    assert names == sorted(names)
    assert len(names) == len(set(names))
    for name in files:
        assert f"{SITE}/{name}" in names
    for member in found:
        assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
        assert member.mtime == 946684800
        executable = member.isdir() or member.name.endswith("bin.sh")
        assert member.mode == (0o755 if executable else 0o644)
        parent = member.name.rpartition("/")[0]
        assert not parent or names.index(parent) < names.index(member.name)


def test_bytes_do_not_depend_on_order_place_or_time(tmp_path: Path) -> None:
    one = [make_wheel(tmp_path / "a", name) for name in ("demo", "other")]
    two = [make_wheel(tmp_path / "b", name) for name in ("other", "demo")]
    for compression in ("zstd", "gzip", "none"):
        first = layer(tmp_path, *one, options=("--compression", compression), out=f"1{compression}")
        second = layer(tmp_path, *two, options=("--compression", compression), out=f"2{compression}")
        for name in ("l.tar", "l.json", "l.tsv"):
            assert (first / name).read_bytes() == (second / name).read_bytes()


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_descriptor_says_digest_size_and_diff_id(tmp_path: Path, compression: str) -> None:
    target = layer(tmp_path, make_wheel(tmp_path), options=("--compression", compression))
    blob = (target / "l.tar").read_bytes()
    suffix = {"zstd": "+zstd", "gzip": "+gzip", "none": ""}[compression]
    tar = content(target)
    with tarfile.open(fileobj=io.BytesIO(tar)):
        pass
    assert json.loads((target / "l.json").read_text()) == {
        "mediaType": f"application/vnd.oci.image.layer.v1.tar{suffix}",
        "digest": f"sha256:{hashlib.sha256(blob).hexdigest()}",
        "size": len(blob),
        "diffID": f"sha256:{hashlib.sha256(tar).hexdigest()}",
    }
    assert read_descriptor(target / "l.json").size == len(blob)


def test_file_list_names_every_file_with_hash_and_distribution(tmp_path: Path) -> None:
    target = layer(tmp_path, make_wheel(tmp_path), make_wheel(tmp_path, "other", version="2.0+cpu"))
    files = unpacked(target)
    lines = [line.split("\t") for line in (target / "l.tsv").read_text().splitlines()]
    assert [line[0] for line in lines] == sorted(files)
    for path, digest, owner in lines:
        assert digest == hashlib.sha256(files[path]).hexdigest()
        assert owner == ("other==2.0+cpu" if "other" in path else "demo==1.0")


def test_record_may_use_a_stronger_hash(tmp_path: Path) -> None:
    target = layer(tmp_path, make_wheel(tmp_path, algorithm="sha512"))
    digest = hashlib.sha256(b"value = 1\n").hexdigest()
    assert f"{SITE}/demo/__init__.py\t{digest}\tdemo==1.0\n" in (target / "l.tsv").read_text()


def corrupt_record(text: str) -> str:
    return text.replace(
        record_line("demo/__init__.py", b"value = 1\n"), record_line("demo/__init__.py", b"value = 2\n")
    )


def symlink(target: str) -> Callable[[zipfile.ZipFile], None]:
    def add(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("demo/link")
        info.create_system = 3
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, target)

    return add


REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "hash mismatch": ({"record": corrupt_record}, ["demo/__init__.py", "is not the file that RECORD lists"]),
    "size mismatch": (
        {"record": lambda text: text.replace(",10\n", ",11\n")},
        ["demo/__init__.py has 10 bytes, RECORD lists 11"],
    ),
    "listed but missing": (
        {"record": lambda text: text + record_line("demo/gone.py", b"")},
        ["RECORD lists demo/gone.py, which the wheel does not contain"],
    ),
    "present but unlisted": (
        {"extra": lambda archive: archive.writestr("demo/more.py", b"")},
        ["contains demo/more.py, which RECORD lists not at all"],
    ),
    "listed without hash": (
        {"record": lambda text: text.replace(record_line("demo/__init__.py", b"value = 1\n"), "demo/__init__.py,,\n")},
        ["contains demo/__init__.py, which RECORD lists without a hash"],
    ),
    "weak hash": ({"algorithm": "md5"}, ["RECORD is malformed", "'md5'"]),
    "RECORD with an open quote": ({"record": lambda text: text + '"demo/x'}, ["RECORD is malformed", "end of data"]),
    "RECORD with two columns": ({"record": lambda text: "a,b\n" + text}, ["RECORD is malformed: line 1 has 2 columns"]),
    "absolute path": ({"files": {"/etc/passwd": b""}}, ["'/etc/passwd'", "absolute"]),
    "parent directory": ({"files": {"demo/../../x": b""}}, ["'demo/../../x'", "'..'"]),
    "parent directory in data": ({"files": {"demo-1.0.data/data/../../../etc/x": b""}}, ["/etc/x'", "'..'"]),
    "backslash": ({"files": {"demo\\x.py": b""}}, ["backslash"]),
    "drive letter": ({"files": {"C:/x.py": b""}}, ["drive letter"]),
    "control character": ({"files": {"demo/a\tb.py": b""}}, ["control character"]),
    "empty component": ({"files": {"demo//b.py": b""}}, ["empty component"]),
    "whiteout": ({"files": {"demo/.wh.other": b""}}, [".wh."]),
    "long name": ({"files": {"demo/" + "x" * 256: b""}}, ["longer than 255 bytes"]),
    "symlink out of the tree": ({"extra": symlink("/etc/passwd")}, ["'demo/link'", "symbolic link"]),
    "symlink in the tree": ({"extra": symlink("__init__.py")}, ["'demo/link'", "symbolic link"]),
    "file twice": (
        {"extra": lambda archive: archive.writestr("demo/__init__.py", b"value = 1\n")},
        ["'demo/__init__.py'", "twice"],
    ),
    "unknown scheme": ({"files": {"demo-1.0.data/sbin/x": b""}}, ["belongs to no installation scheme"]),
    "two files for one path": ({"files": {"x.py": b"", "demo-1.0.data/purelib/x.py": b""}}, [f"as /{SITE}/x.py"]),
    "newer wheel format": ({"wheel_version": "2.0"}, ["Wheel-Version is '2.0'"]),
    "other Python": ({"tag": "cp313-cp313-manylinux_2_17_x86_64"}, ["not for CPython 3.14", "cp313-cp313"]),
    "other system": ({"tag": "cp314-cp314-win_amd64"}, ["not for CPython 3.14", "win_amd64"]),
    "free-threaded Python": ({"tag": "cp314-cp314t-manylinux_2_17_x86_64"}, ["not for CPython 3.14"]),
    "script leaves bin": (
        {"entry_points": "[console_scripts]\n../evil = demo:main\n"},
        ["entry_points.txt", "../evil"],
    ),
    "entry point without function": (
        {"entry_points": "[console_scripts]\nx = demo\n"},
        ["x = demo", "module:function"],
    ),
    "entry point with code": ({"entry_points": "[console_scripts]\nx = a:b();evil\n"}, ["module:function"]),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", REFUSED)
def test_bad_wheel_is_refused_by_name_and_leaves_nothing(tmp_path: Path, case: str) -> None:
    changes, expected = REFUSED[case]
    wheel = make_wheel(tmp_path, **changes)
    with pytest.raises(LayerError) as caught:
        layer(tmp_path, wheel, options=("--name", "small"))
    assert str(caught.value).startswith("layer small: ")
    for text in [wheel.name, *expected]:
        assert text in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_nul_in_a_name_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, files={"demo/aXb.py": b""})
    wheel.write_bytes(wheel.read_bytes().replace(b"demo/aXb.py", b"demo/a\0b.py"))
    with pytest.raises(LayerError, match="control character"):
        layer(tmp_path, wheel)


@pytest.mark.parametrize("claimed", [9, 11])
def test_archive_that_lies_about_a_size_is_refused(tmp_path: Path, claimed: int) -> None:
    record = record_line("demo/__init__.py", b"value = 1\n")
    wheel = make_wheel(tmp_path, record=lambda text: text.replace(record, record.replace(",10\n", ",\n")))
    data = wheel.read_bytes()
    entry = data.rindex(b"demo/__init__.py", 0, data.index(b"PK\5\6")) - 46
    while data[entry : entry + 4] != b"PK\1\2" or data[entry + 46 : entry + 62] != b"demo/__init__.py":
        entry -= 1
    size = claimed.to_bytes(4, "little")
    wheel.write_bytes(data[:22] + size + data[26 : entry + 24] + size + data[entry + 28 :])
    with pytest.raises(LayerError, match=rf"demo/__init__\.py does not have {claimed} bytes"):
        layer(tmp_path, wheel)


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, files={"demo.bin": os.urandom(5000)})
    data = bytearray(wheel.read_bytes())
    data[2000] ^= 1
    wheel.write_bytes(data)
    with pytest.raises(LayerError, match=r"demo\.bin"):
        layer(tmp_path, wheel)
    wheel.write_bytes(b"not a zip")
    with pytest.raises(LayerError, match="cannot open the wheel"):
        layer(tmp_path, wheel)


@pytest.mark.parametrize(
    "tag", ["py3-none-any", "py2.py3-none-any", "cp314-cp314-manylinux_2_28_x86_64", "cp39-abi3-manylinux2014_x86_64"]
)
def test_wheels_for_this_python_are_taken(tmp_path: Path, tag: str) -> None:
    assert layer(tmp_path, make_wheel(tmp_path, tag=tag), options=("--platform", "linux/amd64"))


def test_wheels_for_another_machine_are_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, tag="cp314-cp314-manylinux_2_28_aarch64")
    layer(tmp_path, wheel, options=("--platform", "linux/arm64"))
    with pytest.raises(LayerError, match=r"not for CPython 3\.14 on linux/amd64"):
        layer(tmp_path, wheel, options=("--platform", "linux/amd64"))


def test_file_of_another_name_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    other = Path(shutil.copy(wheel, tmp_path / "other-1.0-py3-none-any.whl"))
    with pytest.raises(LayerError, match=r"demo-1\.0\.dist-info is not of the distribution in the file name"):
        layer(tmp_path, other)
    plain = Path(shutil.copy(wheel, tmp_path / "wheel.zip"))
    with pytest.raises(LayerError, match="not the file name of a wheel"):
        layer(tmp_path, plain)


def test_hash_given_on_the_command_line_is_checked(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    good = hashlib.sha256(wheel.read_bytes()).hexdigest()
    layer(tmp_path, wheel, options=("--sha256", f"{wheel.name}={good}"))
    with pytest.raises(LayerError, match=f"its sha256 is {good}, expected 00"):
        layer(tmp_path, wheel, options=("--sha256", f"{wheel.name}={'0' * 64}"))


def test_two_wheels_that_disagree_are_refused_with_both_names(tmp_path: Path) -> None:
    one = make_wheel(tmp_path, "one", files={"shared/__init__.py": b"1"})
    two = make_wheel(tmp_path, "two", files={"shared/__init__.py": b"2"})
    with pytest.raises(LayerError) as caught:
        layer(tmp_path, two, one)
    assert f"one==1.0 and two==1.0 both install /{SITE}/shared/__init__.py, with different content" in str(caught.value)


def test_two_wheels_may_hold_the_same_file(tmp_path: Path) -> None:
    one = make_wheel(tmp_path, "one", files={"shared/__init__.py": b""})
    two = make_wheel(tmp_path, "two", files={"shared/__init__.py": b""})
    names = [member.name for member in members(layer(tmp_path, one, two))]
    assert names.count(f"{SITE}/shared/__init__.py") == 1


def test_file_of_one_wheel_below_a_file_of_another_is_refused(tmp_path: Path) -> None:
    one = make_wheel(tmp_path, "one", files={"shared": b""})
    two = make_wheel(tmp_path, "two", files={"shared/x.py": b""})
    with pytest.raises(LayerError, match=r"one==1\.0 installs the file .*shared, and two==1\.0 installs"):
        layer(tmp_path, one, two)


def test_a_distribution_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match="demo is given twice"):
        layer(tmp_path, make_wheel(tmp_path), make_wheel(tmp_path, version="2.0"))


def run_front(
    wheel: Path, out: Path, limit: int | None = None, blob: Path | None = None
) -> subprocess.CompletedProcess[str]:
    outputs = ["--blob", str(blob or out / "l.tar"), "--descriptor", f"{out}/l.json", "--files", f"{out}/l.tsv"]
    command = [
        sys.executable,
        "-m",
        "mfbazel.layer",
        "wheels",
        "--python",
        "3.14",
        *outputs,
        "--compression",
        "none",
        str(wheel),
    ]

    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(command, env=environment(), preexec_fn=limited, capture_output=True, text=True, check=False)


def test_file_that_cannot_grow_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, files={"demo.bin": os.urandom(5 << 20)})
    out = tmp_path / "out"
    out.mkdir()
    run = run_front(wheel, out, limit=2 << 20)
    assert run.returncode == 1
    assert run.stderr.startswith(f"error: cannot write {out}/l.tar: the file is larger than")
    assert f"{2 << 20} bytes had been written" in run.stderr
    assert "Traceback" not in run.stderr
    assert list(out.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full exists on Linux only")
def test_full_disk_is_an_error_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(tmp_path)
    plain_open = Path.open

    def full(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if self.name.startswith(".l.tar."):
            plain_open(self, "wb").close()
            return plain_open(Path("/dev/full"), mode, *args, **kwargs)
        return plain_open(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(LayerError, match="no space left on the device; 0 bytes had been written") as caught:
        layer(tmp_path, wheel)
    assert "--output_user_root" in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []
    assert not [thread for thread in threading.enumerate() if thread.name == "layer-reader"]


def test_earlier_outputs_survive_a_failure(tmp_path: Path) -> None:
    target = layer(tmp_path, make_wheel(tmp_path))
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    with pytest.raises(LayerError):
        layer(tmp_path, make_wheel(tmp_path, record=corrupt_record))
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
