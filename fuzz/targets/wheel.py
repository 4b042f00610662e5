"""A wheel becomes a layer whose members all lie in the virtual environment, or is refused.

An input is the bytes of a wheel. The layer is made in memory; the same wheel is unpacked into a directory, too.
"""

from __future__ import annotations

import base64
import hashlib
import io
import stat
import tarfile
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

from fuzz.targets.target import Target, expect
from mfbazel.layer.errors import LayerError
from mfbazel.layer.install import VENV, Scheme, plan
from mfbazel.layer.tar import blocks
from mfbazel.layer.wheel import Wheel
from mfbazel.wheel.archive import DAMAGED, UnsafeWheelError
from mfbazel.wheel.limits import Limits
from mfbazel.wheel.paths import of_metadata
from mfbazel.wheel.unpack import unpack

NAME = "demo-1.0-py3-none-any.whl"
_INFO = "demo-1.0.dist-info"
_SCHEME = Scheme("3.14")
_LIMITS = Limits(unpacked=4 << 20, ratio=100, files=200)
_NAMES = [
    "demo/__init__.py",
    "demo/\u00e9.py",
    "demo/e\u0301.py",
    "DEMO/__init__.py",
    "../x",
    "/etc/passwd",
    "demo/../../x",
    "C:/x",
    "a\\b",
    "demo/.wh.x",
    "demo/" + "x" * 256,
    "d/" * 2000 + "x",
    "demo/a\nb",
    "demo/\u202ex",
    "demo-1.0.data/scripts/tool",
    "demo-1.0.data/data/lib64/x",
    "demo-1.0.data/data/../x",
    "demo-1.0.data/data/lib/python3.14/site-packages/demo/__init__.py",
    "demo-1.0.data/headers/x.h",
    "demo-1.0.data/purelib/demo/__init__.py",
    "demo-1.0.data/data/bin",
    "demo-1.0.data/x/y",
    "demo",
    "demo/",
    f"{_INFO}/INSTALLER",
    f"{_INFO}/direct_url.json",
    f"{_INFO}/entry_points.txt",
    f"{_INFO}/RECORD.jws",
    "other-1.0.dist-info/RECORD",
    "other-1.0.egg-info/PKG-INFO",
    "demo-1.0.data/purelib/other-1.0.dist-info/METADATA",
]
_TEXTS = [
    b"",
    b"#!python -E\nprint()\n",
    b"#!pythonw\n",
    b"\x7fELF",
    b"[console_scripts]\nx = demo:main\n",
    b"[console_scripts]\n../x = demo:main\n= demo:x\n",
    b"[gui_scripts]\n..  = a:b\n",
    b"\xff\xfe",
    bytes(70_000),
]
_MODES = [0o100644, 0o100755, 0o104755, 0o102777, 0o120777, 0o020666, 0o060666, 0o010644, 0o140777, 0o040755, 0, 0o7777]


def run(data: bytes, directory: Path) -> str:
    """Make a layer of the wheel ``data``, and unpack it below ``directory``."""
    path = directory / NAME
    path.write_bytes(data)
    unpacked = _unpack(path, directory / "outer" / "site")
    try:
        with Wheel(path, _LIMITS) as wheel:
            tar = b"".join(blocks(plan([wheel], _SCHEME), 1 << 20))
    except LayerError as error:
        expect(NAME in str(error) or "demo==1.0" in str(error), f"the error does not name the wheel: {error}")
        return f"refused, {unpacked}"
    _check(tar)
    # The unpacker may find damage in what no layer has a look at, and never lets anything through that a layer refuses
    # for what it is.
    expect(unpacked != "unsafe", "a layer of what the unpacker refuses")
    return "layer"


def _check(tar: bytes) -> None:
    """Check what a container engine would unpack as root."""
    seen: set[str] = set()
    parents = {VENV, "opt"}
    total = 0
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        for member in archive:
            parts = member.name.split("/")
            inside = member.name.startswith(f"{VENV}/") or member.name in parents
            expect(inside and not {"", ".", ".."} & set(parts), f"outside of the environment: {member.name!r}")
            expect(member.isreg() or member.isdir(), f"{member.name!r} has the type {member.type!r}")
            expect(member.mode in (0o644, 0o755), f"{member.name!r} has the mode {member.mode:o}")
            expect((member.uid, member.gid) == (0, 0), f"{member.name!r} is not root's")
            expect(not parts[-1].startswith(".wh."), f"{member.name!r} is a whiteout")
            top = member.name.removeprefix(f"{_SCHEME.site_packages}/").partition("/")[0]
            expect(not of_metadata(top) or top == _INFO, f"metadata of another distribution: {member.name!r}")
            expect(member.name not in seen, f"{member.name!r} is there twice")
            expect(member.name == "opt" or member.name.rpartition("/")[0] in seen, f"{member.name!r} before its parent")
            seen.add(member.name)
            total += member.size
    expect(total <= 8 << 20, f"{total} bytes of content")


def _unpack(path: Path, site: Path) -> str:
    """Unpack as the local environment does; check that nothing is written elsewhere, with a mode or type of its own."""
    try:
        unpack(path, site, _LIMITS)
        outcome = "unpacked"
    except UnsafeWheelError:
        outcome = "unsafe"
    except DAMAGED:
        outcome = "damaged"
    for found in path.parent.rglob("*"):
        mode = found.lstat().st_mode
        if found not in (path, site.parent, site):
            expect(site in found.parents, f"{found} is outside of the directory")
            expect(stat.S_ISREG(mode) or stat.S_ISDIR(mode), f"{found} has the mode {mode:o}")
            expect(not stat.S_IMODE(mode) & 0o7022, f"{found} has the mode {mode:o}")
    return outcome


def _pack(files: Sequence[tuple[str, bytes, int]], record: bytes | None, random: Random | None = None) -> bytes:
    """Return a wheel of ``files`` (name, content, mode); its RECORD is right where ``record`` is ``None``."""
    lines = "".join(
        f"{_quoted(name)},sha256={base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip('=')},"
        f"{len(content)}\n"
        for name, content, _ in files
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content, mode in [*files, (f"{_INFO}/RECORD", lines.encode() if record is None else record, 0)]:
            info = zipfile.ZipInfo("x")
            info.filename = name
            info.external_attr = mode << 16
            stored = random is not None and random.random() < 0.2
            info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            with warnings.catch_warnings(action="ignore"):  # of names that are there twice
                archive.writestr(info, content)
    return out.getvalue()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if set(name) & set('",\r\n') else name


_BASE = [
    ("demo/__init__.py", b"value = 1\n", 0o100644),
    (f"{_INFO}/METADATA", b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n", 0o100644),
    (f"{_INFO}/WHEEL", b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n", 0o100644),
]


def seeds() -> list[bytes]:
    """Return small wheels, good and bad."""
    extra = [
        [],
        [(f"{_INFO}/entry_points.txt", _TEXTS[4], 0o100644), ("demo-1.0.data/scripts/tool", _TEXTS[1], 0o100755)],
        [("demo-1.0.data/data/lib64/x", b"x", 0o104755), ("demo-1.0.data/headers/x.h", b"", 0)],
        [("demo/link", b"/etc/passwd", 0o120777)],
        [("demo/a.py", b"", 0o100644), ("demo/A.py", b"", 0o100644)],
    ]
    return [_pack([*_BASE, *more], None) for more in extra] + [b"", b"PK\5\6" + bytes(18)]


def mutate(data: bytes, random: Random) -> bytes:
    """Change the files of a wheel, and write RECORD to fit mostly; or bytes of its headers."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = [(i.filename, archive.read(i)[:100_000], i.external_attr >> 16) for i in archive.infolist()[:40]]
    except Exception:  # whatever: it was changed to be that
        files = list(_BASE)
    record = next((content for name, content, _ in files if name == f"{_INFO}/RECORD"), b"")
    files = [file for file in files if file[0] != f"{_INFO}/RECORD"] or list(_BASE)
    for _ in range(random.randint(0, 4)):
        _change(files, random)
    try:
        made = _pack(files, record if random.random() < 0.1 else None, random)
    except (ValueError, OverflowError, zipfile.LargeZipFile):
        return data
    return _damage(made, random) if random.random() < 0.5 else made


def _change(files: list[tuple[str, bytes, int]], random: Random) -> None:
    at = random.randrange(len(files))
    name, content, mode = files[at]
    change = random.randrange(7)
    if change == 0:
        files.append((random.choice(_NAMES), random.choice(_TEXTS), random.choice(_MODES)))
    elif change == 1:
        files[at] = (name, content, random.choice(_MODES))
    elif change == 2:
        files[at] = (name, random.choice(_TEXTS), mode)
    elif change == 3 and len(files) > 1:
        del files[at]
    elif change == 4:
        files.append((random.choice([name, name.upper(), name + "/", name + "/x"]), content, mode))
    else:
        cut = random.randint(0, len(name))
        files[at] = (
            name[:cut] + random.choice(["/", "..", ".", "\\", "\u00e9", "x", "\0", ":"]) + name[cut:],
            content,
            mode,
        )


def _damage(data: bytes, random: Random) -> bytes:
    """Change a few bytes of what is no content: of the headers."""
    out = bytearray(data)
    places = [at for sign in (b"PK\1\2", b"PK\3\4", b"PK\5\6") for at in _all(data, sign)]
    for _ in range(random.randint(1, 3)):
        at = min(random.choice(places or [0]) + random.randrange(46), len(out) - 1)
        if random.random() < 0.5:
            out[at] = random.choice([0, 1, 0xFF, out[at] ^ 1 << random.randrange(8)])
        else:
            value = random.choice([0, 1, 0xFFFF, 0xFFFFFFFF, len(data)])
            out[at : at + 4] = value.to_bytes(4, "little")
    if random.random() < 0.1:
        out = bytearray(random.choice([b"x" + out, out + b"x", out[: len(out) // 2], out + out]))
    return bytes(out)


def _all(data: bytes, sign: bytes) -> list[int]:
    found, at = [], data.find(sign)
    while at >= 0:
        found.append(at)
        at = data.find(sign, at + 1)
    return found


TARGET = Target(run, seeds, ("mfbazel.layer", "mfbazel.wheel", "zipfile"), mutate)
