"""A base image's layer from Debian packages: their files, in one tar, without running their scripts.

The same set of ``.deb`` files gives the same bytes, wherever and as whoever it is made. Package managers and scanners
find the packages in ``/var/lib/dpkg/status``. Documentation (copyright files excepted), manual pages and translations
are left out.

Debian testing moves on, and its mirrors drop old versions: the JSON record of names, versions and hashes says what an
image was made of, it does not make it obtainable.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from mfbazel.image.deb import Deb, read_deb
from mfbazel.image.debian_setup import MERGED, MOVED, generated, is_template, status_paragraph
from mfbazel.image.errors import ImageError
from mfbazel.layer.blob import Outputs, write_layer
from mfbazel.layer.descriptor import Descriptor
from mfbazel.layer.install import Scheme
from mfbazel.layer.tar import DIRECTORY, FILE, HARDLINK, SYMLINK, Content, Entry

_LEFT_OUT = (
    "usr/share/man/",
    "usr/share/info/",
    "usr/share/lintian/",
    "usr/share/linda/",
    "usr/share/locale/",
    "usr/share/doc-base/",
    "usr/share/bug/",
)
_DOC = "usr/share/doc/"
_CHUNK = 1 << 20


def write_base(
    debs: Sequence[Path],
    python: str,
    outputs: Outputs,
    packages: Path,
    *,
    compression: str = "zstd",
    level: int | None = None,
) -> Descriptor:
    """Write the layer that holds the packages, and the record of their names, versions and hashes.

    Args:
        debs: the ``.deb`` files, dependencies included, in any order.
        python: version ``X.Y`` of the Python among them.
        outputs: blob, descriptor and file list.
        packages: JSON: ``{"schema": 1, "packages": [{"name", "version", "architecture", "sha256", "file"}, …]}``.
        compression, level: of the blob.

    Raises:
        ImageError: a file is not a package, two are of one name, two hold one path, architectures are mixed, or the
            interpreter is not among them.
        LayerError: an output could not be written.
    """
    Scheme(python)
    found = sorted((read_deb(path) for path in debs), key=lambda deb: (deb.name != "base-files", deb.name, deb.version))
    _check_set(found)
    record = [
        {"name": d.name, "version": d.version, "architecture": d.architecture, "sha256": d.sha256, "file": d.path.name}
        for d in sorted(found, key=lambda deb: deb.name)
    ]
    text = json.dumps({"schema": 1, "packages": record}, indent=2, sort_keys=True) + "\n"
    return write_layer(
        _Merge(found, python).entries(),
        outputs,
        compression=compression,
        level=level,
        extra=lambda: {packages: text.encode()},
    )


def _check_set(debs: Sequence[Deb]) -> None:
    names: dict[str, Deb] = {}
    for deb in debs:
        other = names.setdefault(deb.name, deb)
        if other is not deb:
            raise ImageError(
                f"two packages are named {deb.name}: {other.path.name} and {deb.path.name}. Remove one of the files."
            )
    architectures = sorted({deb.architecture for deb in debs} - {"all"})
    if len(architectures) > 1:
        examples = ", ".join(next(d.path.name for d in debs if d.architecture == name) for name in architectures)
        raise ImageError(
            f"the packages are of several architectures, {', '.join(architectures)}: {examples}. Use one per image."
        )


@dataclass
class _MemberSource:
    """The content of the tar member that the stream is at; readable once, in its turn."""

    file: IO[bytes]
    size: int
    _digest: str = ""

    @property
    def sha256(self) -> str:
        return self._digest

    def chunks(self) -> Iterator[bytes]:
        digest = hashlib.sha256()
        while chunk := self.file.read(_CHUNK):
            digest.update(chunk)
            yield chunk
        self._digest = digest.hexdigest()


@dataclass
class _Merge:
    """The packages as one sequence of entries: in the packages' order, members as they come, generated files last."""

    debs: Sequence[Deb]
    python: str
    _kinds: dict[str, bytes] = field(default_factory=dict)
    _owners: dict[str, Deb] = field(default_factory=dict)
    _templates: dict[str, bytes] = field(default_factory=dict)
    _lists: dict[str, list[str]] = field(default_factory=dict)

    def entries(self) -> Iterator[Entry]:
        for deb in self.debs:
            yield from self._package(deb)
        if f"usr/bin/python{self.python}" not in self._kinds:
            raise ImageError(
                f"none of the {len(self.debs)} packages holds /usr/bin/python{self.python}: add "
                f"python{self.python} and its dependencies, or name another version with --python"
            )
        for entry in generated(self._kinds, self._templates, self.python):
            self._kinds[entry.path] = entry.kind
            yield entry
        yield from self._database()

    def _package(self, deb: Deb) -> Iterator[Entry]:
        listed = self._lists.setdefault(deb.info_name, ["/."])
        with deb.data() as archive:
            for member in archive:
                path = _path(deb, member)
                if path is None:
                    continue
                listed.append(f"/{path}")
                entry = self._entry(deb, archive, member, path)
                if entry is not None:
                    yield from self._parents(deb, path)
                    self._kinds[path] = entry.kind
                    self._owners[path] = deb
                    yield entry

    def _parents(self, deb: Deb, path: str) -> Iterator[Entry]:
        """Yield the directories above ``path`` that are not there yet: merged /usr may have moved it into a new one."""
        missing = []
        while (path := path.rpartition("/")[0]) and path not in self._kinds:
            missing.append(path)
        for directory in reversed(missing):
            self._kinds[directory] = DIRECTORY
            yield Entry(directory, DIRECTORY, 0o755, owner=deb.label)

    def _entry(self, deb: Deb, archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> Entry | None:
        """Return a member's entry, ``None`` if it is there already."""
        there = self._kinds.get(path)
        if there is not None:
            if member.isdir() and there in (DIRECTORY, SYMLINK):
                return None
            raise ImageError(
                f"{self._owners[path].label} and {deb.label} both hold /{path}: dpkg would refuse the second. "
                "Leave one of the two packages out."
            )
        entry = Entry(path, mode=member.mode & 0o7777, owner=deb.label, uid=member.uid, gid=member.gid)
        if member.isdir():
            return replace(entry, kind=DIRECTORY)
        if member.issym():
            return replace(entry, kind=SYMLINK, mode=0o777, link=member.linkname)
        if member.islnk():
            return replace(entry, kind=HARDLINK, link=self._hardlink(deb, member, path))
        file = archive.extractfile(member) if member.isfile() else None
        if file is None:
            raise ImageError(f"{deb.path}: /{path} is neither file, link nor directory, which a base layer cannot hold")
        if not is_template(path):
            return replace(entry, source=_MemberSource(file, member.size))
        self._templates[path] = file.read()
        return replace(entry, source=Content(self._templates[path]))

    def _hardlink(self, deb: Deb, member: tarfile.TarInfo, path: str) -> str:
        target = _normal(deb, member.linkname)
        if self._kinds.get(target) != FILE:
            raise ImageError(f"{deb.path}: /{path} is a hard link to /{target}, which is not in the layer")
        return target

    def _database(self) -> Iterator[Entry]:
        """Yield dpkg's database: what is installed, and which files each package has."""
        files: dict[str, bytes] = {"var/lib/dpkg/info/format": b"1\n"}
        ordered = sorted(self.debs, key=lambda deb: deb.name)
        paragraphs = "\n".join(f"{status_paragraph(deb.stanza)}\n" for deb in ordered)
        files["var/lib/dpkg/status"] = paragraphs.encode("utf-8", "surrogateescape")
        for deb in ordered:
            info = f"var/lib/dpkg/info/{deb.info_name}"
            files[f"{info}.list"] = "".join(f"{path}\n" for path in self._lists[deb.info_name]).encode()
            files[f"{info}.md5sums"] = self._md5sums(deb)
            if deb.conffiles:
                files[f"{info}.conffiles"] = "".join(f"{path}\n" for path in deb.conffiles).encode()
        for directory in ("var", "var/lib", "var/lib/dpkg", "var/lib/dpkg/info"):
            if directory not in self._kinds:
                yield Entry(directory, DIRECTORY, 0o755, owner="mfbazel-base")
        for path, data in sorted(files.items()):
            yield Entry(path, FILE, 0o644, Content(data), owner="mfbazel-base")

    def _md5sums(self, deb: Deb) -> bytes:
        """Return the sums of those files that are in the layer, so that `dpkg --verify` finds nothing missing."""
        lines = deb.md5sums.splitlines(keepends=True)
        kept = [line for line in lines if _merged(line.partition("  ")[2].strip()) in self._kinds]
        return "".join(kept).encode("utf-8", "surrogateescape")


def _path(deb: Deb, member: tarfile.TarInfo) -> str | None:
    """Return where a member goes, ``None`` if it is left out."""
    path = _normal(deb, member.name)
    if path in ("", *MOVED) or (path in MERGED and member.isdir()):
        return None
    if f"{path}/".startswith(_LEFT_OUT):
        return None
    if path.startswith(_DOC) and not member.isdir() and path.rpartition("/")[2] != "copyright":
        return None
    return path


def _normal(deb: Deb, name: str) -> str:
    """Return a member's name relative to the root, with merged /usr applied."""
    path = re.sub(r"^(\./)+|^\.$", "", name).rstrip("/")
    if path.startswith("/") or any(part in ("..", ".", "") for part in path.split("/") if path):
        raise ImageError(f"{deb.path}: unsafe path {name!r}. Do not use this package.")
    return _merged(path)


def _merged(path: str) -> str:
    top, separator, _ = path.partition("/")
    return f"usr/{path}" if separator and top in MERGED else path
