"""Wheels that were made to do harm: no layer is made of them, and no directory filled, or their harm is taken out."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mfbazel.errors import run_front
from mfbazel.layer import LayerError
from mfbazel.layer.__main__ import main
from mfbazel.wheel.archive import DAMAGED, UnsafeWheelError
from mfbazel.wheel.limits import Limits
from mfbazel.wheel.unpack import unpack
from mfbazel.worker import in_child
from tests.layer import hostile
from tests.layer.wheels import SITE, layer, make_wheel, members, record_line
from tests.layer.wheels import unpacked as files_of

NFC, NFD = "caf\u00e9", "cafe\u0301"

REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "symlink": (lambda at: hostile.special(at, stat.S_IFLNK | 0o777), "'demo/special': it is a symbolic link"),
    "character device": (lambda at: hostile.special(at, stat.S_IFCHR | 0o666), "'demo/special': its type is 0o20000"),
    "block device": (lambda at: hostile.special(at, stat.S_IFBLK | 0o666), "'demo/special': its type is 0o60000"),
    "fifo": (lambda at: hostile.special(at, stat.S_IFIFO | 0o644), "'demo/special': its type is 0o10000"),
    "socket": (lambda at: hostile.special(at, stat.S_IFSOCK | 0o644), "'demo/special': its type is 0o140000"),
    "directory as a file": (lambda at: hostile.special(at, stat.S_IFDIR | 0o755), "its type is 0o40000"),
    "file twice": (hostile.twice, "'demo/__init__.py': it is there twice"),
    "names that differ by case": (
        lambda at: hostile.with_files(at, "demo/A.py", "demo/a.py"),
        "clashes with 'demo/A.py'",
    ),
    "names that differ by case beyond ASCII": (
        lambda at: hostile.with_files(at, "demo/\u00c9.py", "demo/\u00e9.py"),
        "clashes with 'demo/\u00c9.py'",
    ),
    "names in two forms of Unicode": (
        lambda at: hostile.with_files(at, f"demo/{NFC}.py", f"demo/{NFD}.py"),
        "the two are the same text in two forms of Unicode",
    ),
    "directories in two forms of Unicode": (
        lambda at: hostile.with_files(at, f"{NFC}/a.py", f"{NFD}/b.py"),
        "the two are the same text in two forms of Unicode",
    ),
    "long path": (lambda at: hostile.with_files(at, "d/" * 2000 + "x"), "it is longer than 3840 bytes"),
    "absolute path": (lambda at: hostile.with_files(at, "/etc/passwd"), "'/etc/passwd': it is absolute"),
    "parent directory": (lambda at: hostile.with_files(at, "demo/../../x"), "'demo/../../x': it leaves its directory"),
    "parent directory in scripts": (
        lambda at: hostile.with_files(at, "demo-1.0.data/scripts/../../../../etc/x"),
        "it leaves its directory with '..'",
    ),
    "parent directory in headers": (
        lambda at: hostile.with_files(at, "demo-1.0.data/headers/../x.h"),
        "it leaves its directory with '..'",
    ),
    "second control characters": (lambda at: hostile.with_files(at, "demo/\x85x"), "it contains a control character"),
    "line separator": (lambda at: hostile.with_files(at, "demo/\u2028x"), "it contains a control character"),
    "name that reads as another": (
        lambda at: hostile.with_files(at, "demo/\u202eyp.exe"),
        "a character that changes the order in which a name is shown",
    ),
    "file that is a directory": (
        lambda at: hostile.with_files(at, "demo/x", "demo/x/y"),
        "'demo/x': it is a file, and a directory of others",
    ),
    "encrypted": (lambda at: hostile.flagged(at, 0x1), "'demo/__init__.py': it is encrypted"),
    "strongly encrypted": (lambda at: hostile.flagged(at, 0x41), "'demo/__init__.py': it is encrypted"),
    "patch": (lambda at: hostile.flagged(at, 0x20), "'demo/__init__.py': it is a patch for another file"),
    "bzip2": (lambda at: hostile.compressed_by(at, zipfile.ZIP_BZIP2), "its compression is method 12"),
    "lzma, whose dictionary may take 4 GB": (
        lambda at: hostile.compressed_by(at, zipfile.ZIP_LZMA),
        "its compression is method 14",
    ),
    "entries that overlap": (hostile.overlapping, "'demo/aaaa.py' and 'demo/bbbb.py' overlap"),
    "two names of one entry": (hostile.two_names, "demo/good.py"),
    "two names by an extra field": (hostile.unicode_path, "it has a second name, 'demo/evil.py'"),
    "data before": (
        lambda at: hostile.edited(at, lambda data: b"#!/bin/sh\n" + data),
        "something before the archive's",
    ),
    "data after": (
        lambda at: hostile.edited(at, lambda data: data + b"PK\3\4" + bytes(30)),
        "something after the archive",
    ),
    "two archives": (lambda at: hostile.edited(at, lambda data: data + data), "something before the archive's"),
    "entries that are not counted": (
        lambda at: hostile.edited(at, lambda data: data[:-12] + b"\2\0" + data[-10:]),
        "its end says that it has 2 entries, and its central directory lists 4",
    ),
    "entry that is not listed, between two": (
        lambda at: hostile.hidden(at, "demo-1.0.dist-info/WHEEL"),
        "something between its members 'demo-1.0.dist-info/METADATA' and 'demo-1.0.dist-info/WHEEL' that belongs to",
    ),
    "entry that is not listed, at the end": (
        lambda at: hostile.hidden(at, None),
        "something between its member 'demo-1.0.dist-info/RECORD' and the central directory",
    ),
    "another size in the local header": (
        lambda at: hostile.local(at, 22, b"\7\0\0\0"),
        "'demo/__init__.py': its local header is of another size",
    ),
    "another check sum in the local header": (
        lambda at: hostile.local(at, 14, b"\7\0\0\0"),
        "'demo/__init__.py': its local header is of another size or check sum",
    ),
    "stored, and deflated in the local header": (
        lambda at: hostile.local(at, 8, b"\10\0", stored=True),
        "'demo/stored.txt': its local header is of another name or compression",
    ),
    "two places of the central directory": (hostile.second_end, "its end says two things of where its entries are"),
    "end record that is elsewhere": (
        lambda at: hostile.second_end(at, elsewhere=True),
        "demo-1.0-py3-none-any.whl: ",  # newer versions of zipfile refuse it themselves
    ),
    "name of a device with many dots": (lambda at: hostile.with_files(at, "demo/.wh..wh..opq"), "begins with '.wh.'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_hostile_wheel_becomes_no_layer(tmp_path: Path, case: str) -> None:
    make, expected = REFUSED[case]
    wheel = make(tmp_path)
    with pytest.raises(LayerError) as caught:
        layer(tmp_path, wheel)
    message = str(caught.value)
    assert wheel.name in message
    assert expected in message
    assert any(advice in message for advice in ("report it to its authors", "ownload it again"))
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("case", REFUSED)
def test_a_hostile_wheel_is_not_unpacked(tmp_path: Path, case: str) -> None:
    make, _ = REFUSED[case]
    wheel = make(tmp_path)
    with pytest.raises((UnsafeWheelError, *DAMAGED)):
        unpack(wheel, tmp_path / "outer" / "site")
    written = {path for path in tmp_path.rglob("*") if path.is_file() and path != wheel}
    assert all(tmp_path / "outer" / "site" in path.parents for path in written)


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o1777, 0o666, 0o777, 0o7777, 0o000])
def test_modes_of_a_wheel_are_two(tmp_path: Path, mode: int) -> None:
    wheel = hostile.modes(tmp_path, mode)
    expected = 0o755 if mode & 0o111 else 0o644
    found = {member.name: member for member in members(layer(tmp_path, wheel))}
    assert found[f"{SITE}/demo/tool"].mode == expected
    assert all(member.mode in (0o644, 0o755) for member in found.values())
    unpack(wheel, tmp_path / "site")
    assert stat.S_IMODE((tmp_path / "site/demo/tool").stat().st_mode) == expected


def test_scripts_of_a_wheel_are_neither_setuid_nor_writable(tmp_path: Path) -> None:
    wheel = hostile.modes(tmp_path, 0o6777, "demo-1.0.data/scripts/tool")
    found = {member.name: member.mode for member in members(layer(tmp_path, wheel))}
    assert found["opt/venv/bin/tool"] == 0o755
    unpack(wheel, tmp_path / "site")
    assert stat.S_IMODE((tmp_path / "site/bin/tool").stat().st_mode) == 0o755


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ("ratio=100", "its {size} bytes unpack to {unpacked}, {ratio} times as much, and 100 times is allowed"),
        ("unpacked=10MB,ratio=5000", "it unpacks to {unpacked} bytes, and 10000000 are allowed"),
        (
            "files=3",
            "it has 4 files, and 3 are allowed (where it is meant to be so: --@mfbazel//rules:wheel_limits=files=4",
        ),
    ],
)
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, limits: str, expected: str) -> None:
    wheel = hostile.bomb(tmp_path, 68_000_000)
    size = wheel.stat().st_size
    with zipfile.ZipFile(wheel) as archive:
        unpacked = sum(info.file_size for info in archive.infolist())
    with pytest.raises(LayerError) as caught:
        layer(tmp_path, wheel, options=("--limits", limits))
    assert expected.format(size=size, unpacked=unpacked, ratio=-(-unpacked // size)) in str(caught.value)
    assert f"{tmp_path}/{wheel.name}" in str(caught.value)


@pytest.mark.parametrize("told", [None, 3])
def test_too_many_entries_are_refused_before_an_object_is_made_of_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: int | None
) -> None:
    wheel = hostile.many(tmp_path, 3000, told=told)
    made: list[str] = []
    monkeypatch.setattr(zipfile, "ZipInfo", lambda name: made.append(name))
    with pytest.raises(LayerError, match=r"it has 3000 files, and 1000 are allowed"):
        layer(tmp_path, wheel, options=("--limits", "files=1000"))
    with pytest.raises(UnsafeWheelError, match=r"it has 3000 files, and 1000 are allowed"):
        unpack(wheel, tmp_path / "site", Limits(files=1000))
    assert made == []


def test_the_defaults_refuse_a_bomb_and_the_setting_that_the_message_names_takes_it(tmp_path: Path) -> None:
    wheel = hostile.bomb(tmp_path, 68_000_000)
    with pytest.raises(LayerError, match="times is allowed") as caught:
        layer(tmp_path, wheel)
    setting = str(caught.value).partition("wheel_limits=")[2].partition(")")[0]
    layer(tmp_path, wheel, options=("--limits", setting))
    with pytest.raises(UnsafeWheelError, match="times is allowed"):
        unpack(wheel, tmp_path / "site")


def test_small_wheels_and_one_sparse_file_among_others_are_no_bombs(tmp_path: Path) -> None:
    layer(tmp_path, hostile.bomb(tmp_path / "small", 60_000_000))
    limits = Limits()
    assert limits.exceeded(3, 10_000_000_000, 1_000_000_000) is None, "several GB, as torch with CUDA"
    assert limits.exceeded(3, 30_000_000_000, 500_000_000) is None, "a large sparse file"


def test_an_entry_that_is_larger_than_it_says_is_cut_off(tmp_path: Path) -> None:
    wheel = hostile.bomb(tmp_path, 5_000_000)
    data = bytearray(wheel.read_bytes())
    entry = data.index(b"demo/zeros.bin", data.index(b"PK\1\2")) - 46
    for place in (22, entry + 24):
        data[place : place + 4] = (1000).to_bytes(4, "little")
    wheel.write_bytes(data)
    with pytest.raises(LayerError, match=r"zeros\.bin"):
        layer(tmp_path, wheel)
    with pytest.raises(zipfile.BadZipFile):
        unpack(wheel, tmp_path / "site")
    assert all(path.stat().st_size <= 1000 for path in (tmp_path / "site").rglob("*.bin"))


METADATA_OF_OTHERS = [
    "demo-1.0.data/purelib/other-2.0.dist-info/entry_points.txt",
    "other-2.0.DIST-INFO/METADATA",
    "other-2.0.egg-info/PKG-INFO",
    "other.egg-info",
]


@pytest.mark.parametrize("name", METADATA_OF_OTHERS)
def test_a_wheel_brings_no_metadata_of_another_distribution(tmp_path: Path, name: str) -> None:
    wheel = hostile.with_files(tmp_path, "demo/__init__.py", name)
    options = ("--limits", "case_clashes=yes")
    with pytest.raises(LayerError, match="would be installed as metadata of a distribution"):
        layer(tmp_path, wheel, options=options)
    with pytest.raises(UnsafeWheelError, match="metadata of more than one distribution"):
        unpack(wheel, tmp_path / "site", Limits(case_clashes=True))
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize(
    "name",
    ["data/lib64/python3.14/site-packages/o-2.dist-info/METADATA", "purelib/demo-1.0.dist-info/direct_url.json"],
)
def test_a_wheel_brings_no_metadata_as_data(tmp_path: Path, name: str) -> None:
    wheel = hostile.with_files(tmp_path, f"demo-1.0.data/{name}")
    with pytest.raises(LayerError, match="would be installed as metadata of a distribution"):
        layer(tmp_path, wheel)


ESCAPE = "\x1b]0;owned\x07\x1b[2J"
SAYS_MORE_THAN_TEXT: dict[str, Callable[[Path], Path]] = {
    "RECORD": lambda at: make_wheel(at, record=lambda text: text + record_line(f"demo/{ESCAPE}", b"")),
    "hash in RECORD": lambda at: make_wheel(at, record=lambda text: text + f"demo/x,{ESCAPE}=x,1\n"),
    "entry point": lambda at: make_wheel(at, entry_points=f"[console_scripts]\nx = demo:{ESCAPE}\n"),
}


@pytest.mark.parametrize("case", SAYS_MORE_THAN_TEXT)
def test_what_a_wheel_holds_is_written_out_where_an_error_shows_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], case: str
) -> None:
    wheel = SAYS_MORE_THAN_TEXT[case](tmp_path)

    def front() -> int:
        return main(
            ["wheels", "--python", "3.14", "--blob", f"{tmp_path}/l", "--descriptor", f"{tmp_path}/d", str(wheel)]
        )

    with pytest.raises(SystemExit):
        run_front(front)
    assert in_child(lambda _: front(), [])[1] == (alone := capfd.readouterr().err)
    assert "\\x1b]0;owned\\x07" in alone
    assert "\x1b" not in alone


def test_a_name_of_any_length_in_record_makes_no_error_of_any_length(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, record=lambda text: text + record_line("x" * 100_000, b""))
    with pytest.raises(LayerError, match="which the wheel does not contain") as caught:
        layer(tmp_path, wheel)
    assert len(str(caught.value)) < 1000


def test_names_that_differ_by_case_are_taken_where_the_setting_says_so(tmp_path: Path) -> None:
    wheel = hostile.with_files(tmp_path, "demo/A.py", "demo/a.py")
    files = files_of(layer(tmp_path, wheel, options=("--limits", "case_clashes=yes")))
    assert files[f"{SITE}/demo/A.py"] == b"demo/A.py"
    assert files[f"{SITE}/demo/a.py"] == b"demo/a.py"


def test_names_that_clash_only_where_they_are_installed_are_refused(tmp_path: Path) -> None:
    wheel = hostile.with_files(tmp_path, "demo/a.py", "demo-1.0.data/purelib/demo/A.py")
    with pytest.raises(LayerError, match=r"demo==1\.0 installs '/opt/venv/.*/A\.py', which some file systems take for"):
        layer(tmp_path, wheel)


def test_packages_whose_names_differ_by_case_are_different(tmp_path: Path) -> None:
    one, two = make_wheel(tmp_path, "one", {"Crypto/x.py": b"1"}), make_wheel(tmp_path, "two", {"crypto/x.py": b"2"})
    files = files_of(layer(tmp_path, one, two))
    assert (files[f"{SITE}/Crypto/x.py"], files[f"{SITE}/crypto/x.py"]) == (b"1", b"2")


def test_packages_whose_names_differ_by_the_form_of_unicode_are_refused(tmp_path: Path) -> None:
    one, two = make_wheel(tmp_path, "one", {f"{NFC}.py": b"1"}), make_wheel(tmp_path, "two", {f"{NFD}.py": b"2"})
    with pytest.raises(LayerError, match="differ by case, or by the form of Unicode, only"):
        layer(tmp_path, one, two)
    lists = [layer(tmp_path, wheel, out=wheel.stem) / "l.tsv" for wheel in (one, two)]
    with pytest.raises(LayerError, match=r"one==1\.0 and two==1\.0 both install .* another form of the same text"):
        main(["clashes", *map(str, lists)])


@pytest.mark.parametrize(
    ("files", "points"),
    [
        ({"demo-1.0.data/data/bin/python": b"x"}, ""),
        ({"demo-1.0.data/scripts/python3": b"x"}, ""),
        ({"demo-1.0.data/data/pyvenv.cfg": b"x"}, ""),
        ({"demo-1.0.data/data/lib64": b"x"}, ""),
        ({"demo-1.0.data/data/bin/python/x": b"x"}, ""),
        ({"demo.py": b""}, "[console_scripts]\npython = demo:main\n"),
    ],
)
def test_the_interpreter_of_the_environment_is_no_wheels(tmp_path: Path, files: dict[str, bytes], points: str) -> None:
    made = layer(tmp_path, make_wheel(tmp_path, files=files, entry_points=points))
    outputs = ["--blob", f"{tmp_path}/v.tar", "--descriptor", f"{tmp_path}/v.json", "--files", f"{tmp_path}/v.tsv"]
    main(["venv", "--python", "3.14", "--interpreter", "/usr/bin/python3.14", *outputs])
    with pytest.raises(LayerError, match=r"demo==1\.0 .*both install|both install .*demo==1\.0"):
        main(["clashes", f"{tmp_path}/v.tsv", str(made / "l.tsv")])


@pytest.mark.parametrize(
    "line", ["a b/c = demo:main", ".. = demo:main", ".wh.x = demo:main", "x = class:main", "x = a.:b", "x = 1a:b"]
)
def test_entry_points_with_bad_names_are_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(LayerError, match=r"demo-1\.0-py3-none-any\.whl: demo-1\.0\.dist-info/entry_points\.txt: "):
        layer(tmp_path, make_wheel(tmp_path, entry_points=f"[console_scripts]\n{line}\n"))


def test_a_file_that_was_changed_after_the_build_is_refused(tmp_path: Path) -> None:
    record = record_line("demo/__init__.py", b"value = 1\n")
    wheel = make_wheel(tmp_path, files={"demo/__init__.py": b"value = 6\n"}, record=lambda text: text.replace(
        record_line("demo/__init__.py", b"value = 6\n"), record
    ))  # fmt: skip
    with pytest.raises(LayerError, match=r"demo/__init__\.py is not the file that RECORD lists"):
        layer(tmp_path, wheel)


def test_a_record_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, record=lambda text: text + " " * (65 << 20))
    with pytest.raises(LayerError, match=r"demo-1\.0\.dist-info/RECORD has 6815.* bytes; at most 67108864"):
        layer(tmp_path, wheel, options=("--limits", "ratio=100000"))


@pytest.mark.parametrize(
    "name", ["-1.0-py3-none-any.whl", "d\u00e9mo-1.0-py3-none-any.whl", "demo\n-1.0-py3-none-any.whl"]
)
def test_a_file_that_is_called_as_no_distribution_is_refused(tmp_path: Path, name: str) -> None:
    wheel = make_wheel(tmp_path).rename(tmp_path / name)
    with pytest.raises(LayerError, match="not the file name of a wheel"):
        layer(tmp_path, wheel)


@pytest.mark.parametrize("text", ["ratio", "ratio=x", "unpacked=5XB", "size=3", "case_clashes=maybe", "files=-1"])
def test_a_limit_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(LayerError) as caught:
        layer(tmp_path, make_wheel(tmp_path), options=("--limits", f"unpacked=64GB,{text}"))
    assert f"{text!r} is no limit of wheels" in str(caught.value)


def test_byte_code_whose_name_would_be_too_long_is_left_out(tmp_path: Path) -> None:
    long = "x" * 250 + ".py"
    names = {
        member.name
        for member in members(
            layer(tmp_path, make_wheel(tmp_path, files={long: b"", "y.py": b""}), options=("--bytecode",))
        )
    }
    assert f"{SITE}/{long}" in names
    assert f"{SITE}/__pycache__/y.cpython-314.pyc" in names
    assert all(len(name.rpartition("/")[2]) <= 255 for name in names)
