"""A tar that something else made is listed, and audited, by paths of the image; or is refused.

An input is the bytes of a tar, plain or compressed: what `mfbazel.layer tar` is given, and a layer of a foreign base.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import posixpath
import tarfile
from pathlib import Path
from random import Random

import zstandard

from fuzz.targets.target import Target, expect
from mfbazel.audit.errors import AuditError
from mfbazel.audit.layer import read_layer
from mfbazel.layer.errors import LayerError
from mfbazel.layer.existing import describe
from mfbazel.layer.filelist import read_tsv, to_tsv

_NAMES = [
    "a",
    "./a",
    "a//b",
    "../x",
    "/etc/x",
    "a/../b",
    "a\nb",
    "caf\udce9",
    "\u00e9" * 60,
    "d/" * 200 + "x",
    ".",
    "/",
]
_NAMES += ["opt/venv/pyvenv.cfg", "x-1.0.dist-info/RECORD", "app/.env", "root/.docker/config.json", "a\tb"]
_TEXTS = [b"", b"x" * 600, b"../a,,\n../b,,\n", b'"' + b"x" * 140_000, b"TOKEN=x\n", b'{"auths": []}', b"-----BEGIN "]
_KINDS = [*(bytes([kind]) for kind in b"01234567xgLKSVDNM"), b"\0"]
_RECORDS = ["size", "path", "linkpath", "mtime", "uid", "GNU.sparse.map", "GNU.sparse.major", "GNU.sparse.size"]
_RECORDS += ["GNU.sparse.realsize", "GNU.sparse.name", "hdrcharset", "SCHILY.xattr.security.capability"]
_VALUES = ["", "0", "-1", "-1024", "1e999", "nan", "9" * 30, "1,2,3", "../x", "BINARY", "\u00e9"]


def run(data: bytes, directory: Path) -> str:
    """List the tar ``data``, and audit it as a layer."""
    path = directory / "some.tar"
    path.write_bytes(data)
    listed = _list(path, directory / "files.tsv")
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    packed = {b"\x1f\x8b": "+gzip", b"\x28\xb5": "+zstd"}.get(data[:2], "")
    try:
        content = read_layer(path, digest, f"application/vnd.oci.image.layer.v1.tar{packed}", ["/", "/work"])
    except AuditError as error:
        expect(str(path) in str(error), f"the error does not name the layer: {error}")
        return f"{listed}, not audited"
    for found in content.found:
        expect(posixpath.normpath(found.path) == found.path.replace("//", "/"), f"{found.path!r} is no path")
    return f"{listed}, audited"


def _list(path: Path, out: Path) -> str:
    try:
        descriptor, files = describe(path, "some")
        out.write_bytes(to_tsv(files))
    except LayerError:
        return "not listed"
    expect(descriptor.size == path.stat().st_size, "another size")
    expect(read_tsv(out) == sorted(files), "the file list does not read as it was written")
    for file in files:
        expect(posixpath.normpath(f"/{file.path}") == f"/{file.path}", f"{file.path!r} is no path of an image")
    return "listed"


def seeds() -> list[bytes]:
    """Return small tars of every form."""
    random = Random(3)
    forms = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)
    tars = [_tar(random, form, number) for form in forms for number in range(1, 4)]
    plain = _tar(random, tarfile.PAX_FORMAT, 4)
    return [*tars, gzip.compress(plain, mtime=0), zstandard.compress(plain), b"", bytes(1024)]


def _tar(random: Random, form: int, number: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for _ in range(number):
            info = tarfile.TarInfo(random.choice(_NAMES))
            text = random.choice(_TEXTS)
            info.type = random.choice([tarfile.REGTYPE, tarfile.REGTYPE, *_KINDS[:7]])
            info.mode = random.choice([0o644, 0o4755, 0o777, 0o1777])
            info.linkname = random.choice(_NAMES) if info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            info.size = len(text) if info.type == tarfile.REGTYPE else 0
            if form == tarfile.PAX_FORMAT and random.random() < 0.4:
                info.pax_headers = {random.choice(_RECORDS): random.choice(_VALUES)}
            try:
                archive.addfile(info, io.BytesIO(text))
            except ValueError:  # a name that this form cannot have
                continue
    return out.getvalue()


def mutate(data: bytes, random: Random) -> bytes:
    """Change headers, and their check sums to fit; or make another tar; compress it at times."""
    out = bytearray(_plain(data))
    if random.random() < 0.2 or len(out) < 1024:
        out = bytearray(_tar(random, random.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]), random.randint(1, 4)))
    headers = [at for at in range(0, len(out) - 511, 512) if out[at + 257 : at + 262] == b"ustar"] or [0]
    for _ in range(random.randint(1, 3)):
        _change(out, random.choice(headers), random)
    made = bytes(out)
    if random.random() < 0.2:
        made = random.choice([gzip.compress(made, 1, mtime=0), zstandard.compress(made)])
        made = made[: -random.randint(1, 20)] if random.random() < 0.3 else made
    return made


def _plain(data: bytes) -> bytes:
    try:
        if data.startswith(b"\x1f\x8b"):
            return gzip.decompress(data)[:200_000]
        if data.startswith(b"\x28\xb5\x2f\xfd"):
            return zstandard.ZstdDecompressor().decompressobj().decompress(data)[:200_000]
    except Exception:  # whatever: it was changed to be that
        return b""
    return data


def _change(out: bytearray, at: int, random: Random) -> None:
    change = random.randrange(5)
    if change == 0:
        out[at + 156 : at + 157] = random.choice(_KINDS)
    elif change == 1:
        size = random.choice(
            [b"00000000000\0", b"77777777777\0", b"00000001000\0", b"\x80" + bytes(10) + b"\5", b"\xff" * 12]
        )
        out[at + 124 : at + 136] = size
    elif change == 2:
        name = random.choice(_NAMES).encode("utf-8", "surrogateescape")[:100]
        out[at : at + 100] = name.ljust(100, b"\0")
    elif change == 3:
        place = at + random.randrange(512)
        out[place] = random.choice([0, 0x30, 0x37, 0xFF, out[place] ^ 1])
    else:
        out[at : at + 512] = out[at : at + 512] * random.randint(0, 2)
    if len(out) >= at + 512:
        out[at + 148 : at + 156] = b" " * 8
        out[at + 148 : at + 156] = b"%06o\0 " % sum(out[at : at + 512])


TARGET = Target(run, seeds, ("mfbazel.audit.layer", "mfbazel.audit.secrets", "mfbazel.layer", "tarfile"), mutate)
