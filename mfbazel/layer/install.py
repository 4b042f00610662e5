"""Where a wheel's files go (PyPA specification "Binary distribution format", "Installing a wheel")."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from mfbazel.layer.errors import LayerError
from mfbazel.layer.record import Recorded, format_record, recorded
from mfbazel.layer.scripts import entry_point_scripts, is_wrapper, wants_interpreter, with_interpreter
from mfbazel.layer.tar import DIRECTORY, FILE, Content, Entry, Source
from mfbazel.layer.wheel import Member, Wheel
from mfbazel.wheel.limits import SETTING
from mfbazel.wheel.paths import Folded, of_metadata, unsafe

if TYPE_CHECKING:
    from mfbazel.layer.bytecode import Bytecode

VENV = "opt/venv"
"""The virtual environment of every image, relative to its root."""

INSTALLER = b"mfbazel\n"
_PYTHON = re.compile(r"\d+\.\d+")
_ABSENT = ("INSTALLER", "REQUESTED", "direct_url.json")


@dataclass(frozen=True)
class Scheme:
    """The installation paths of the virtual environment for one Python ``X.Y``."""

    python: str

    def __post_init__(self) -> None:
        if not _PYTHON.fullmatch(self.python):
            raise LayerError(f"python {self.python!r} is not a version of the form X.Y, for example 3.14")

    @property
    def interpreter(self) -> str:
        """Absolute path that scripts start with."""
        return f"/{VENV}/bin/python"

    @property
    def site_packages(self) -> str:
        """Where ``purelib`` and ``platlib`` are."""
        return f"{VENV}/lib/python{self.python}/site-packages"

    def directory(self, key: str, distribution: str) -> str | None:
        """Return the directory of a scheme key (``purelib``, ``scripts``, …), ``None`` for an unknown one."""
        return {
            "purelib": self.site_packages,
            "platlib": self.site_packages,
            "scripts": f"{VENV}/bin",
            "headers": f"{VENV}/include/site/python{self.python}/{distribution}",
            "data": VENV,
        }.get(key)


def plan(
    wheels: Sequence[Wheel],
    scheme: Scheme,
    *,
    direct_urls: Mapping[Wheel, bytes] = MappingProxyType({}),
    bytecode: Bytecode | None = None,
) -> list[Entry]:
    """Return the entries of the layer that holds ``wheels``: sorted by path, each parent directory once.

    Args:
        wheels: one per distribution, in any order.
        scheme: where files go.
        direct_urls: content of ``direct_url.json`` for wheels that came from no index.
        bytecode: compiles the installed files, when they shall have byte code.

    Raises:
        LayerError: a distribution is given twice, a wheel cannot be installed, or two wheels disagree about a path.
    """
    files: dict[str, Entry] = {}
    names: dict[str, Wheel] = {}
    for wheel in sorted(wheels, key=lambda wheel: wheel.name):
        other = names.setdefault(wheel.name, wheel)
        if other is not wheel:
            raise LayerError(f"{wheel.name} is given twice for one layer: {other.path.name} and {wheel.path.name}")
        for entry in _Installation(wheel, scheme, direct_urls.get(wheel), bytecode).entries():
            _add(files, entry)
    _check_clashes(files.values(), {wheel.label for wheel in wheels if wheel.limits.case_clashes})
    return with_directories(files.values())


def with_directories(entries: Iterable[Entry]) -> list[Entry]:
    """Return ``entries`` and the directories above them, sorted by path.

    Raises:
        LayerError: a file of one entry is a directory of another.
    """
    result = {entry.path: entry for entry in entries}
    for entry in list(result.values()):
        parent = entry.path.rpartition("/")[0]
        while parent:
            there = result.setdefault(parent, Entry(parent, DIRECTORY, 0o755))
            if there.kind != DIRECTORY and there.owner == entry.owner:
                raise LayerError(
                    f"{there.owner} installs the file /{parent}, and /{entry.path} below it. {Wheel.advice}"
                )
            if there.kind != DIRECTORY:
                raise LayerError(
                    f"{there.owner} installs the file /{parent}, and {entry.owner} installs /{entry.path} below it. "
                    "Drop one of the two packages, or choose versions that do not clash, and lock again."
                )
            parent = parent.rpartition("/")[0]
    return sorted(result.values(), key=lambda entry: entry.path)


class _Installation:
    """Collects the files of one wheel together with their RECORD entries.

    These are the wheel's own, scripts, byte code, INSTALLER, direct_url.json and the rewritten RECORD.
    """

    def __init__(self, wheel: Wheel, scheme: Scheme, direct_url: bytes | None, bytecode: Bytecode | None) -> None:
        self._wheel = wheel
        self._scheme = scheme
        self._direct_url = direct_url
        self._bytecode = bytecode
        self._files: dict[str, tuple[Entry, Recorded]] = {}

    def entries(self) -> list[Entry]:
        scripts = self._entry_points()
        for name, member in self._wheel.members.items():
            self._place(name, member, scripts)
        for name, text in scripts.items():
            self._put(f"{VENV}/bin/{name}", Content(text), recorded(text), 0o755)
        self._put_text("INSTALLER", INSTALLER)
        if self._direct_url is not None:
            self._put_text("direct_url.json", self._direct_url)
        if self._bytecode:
            self._compile(self._bytecode)
        record = self._in_dist_info("RECORD")
        text = format_record(
            [(self._relative(path), row) for path, (_, row) in self._files.items()] + [(self._relative(record), None)]
        )
        return [entry for entry, _ in self._files.values()] + [self._entry(record, Content(text), 0o644)]

    def _place(self, name: str, member: Member, scripts: dict[str, bytes]) -> None:
        top, _, rest = name.partition("/")
        if top == self._wheel.data:
            self._place_data(name, rest, member, scripts)
        elif top == self._wheel.dist_info and rest in _ABSENT:
            member.verify()
        else:
            self._put_member(f"{self._scheme.site_packages}/{name}", member, metadata=self._wheel.dist_info)

    def _place_data(self, name: str, rest: str, member: Member, scripts: dict[str, bytes]) -> None:
        key, _, path = rest.partition("/")
        directory = self._scheme.directory(key, self._wheel.name)
        if directory is None or not path:
            raise LayerError(
                f"{self._wheel.path}: {name} belongs to no installation scheme; known are purelib, platlib, scripts, "
                f"headers, data. {self._wheel.advice}"
            )
        if key == "scripts":
            self._place_script(path, member, scripts)
            return
        if key == "data" and path.startswith("lib64/"):
            path = path.replace("lib64/", "lib/", 1)
        self._put_member(f"{directory}/{path}", member)

    def _place_script(self, path: str, member: Member, scripts: dict[str, bytes]) -> None:
        if is_wrapper(path, scripts):
            member.verify()
        elif wants_interpreter(member.head(8)):
            text = with_interpreter(member.read(), self._scheme.interpreter)
            self._put(f"{VENV}/bin/{path}", Content(text), recorded(text), 0o755)
        else:
            self._put(f"{VENV}/bin/{path}", member, member.recorded, 0o755)

    def _entry_points(self) -> dict[str, bytes]:
        member = self._wheel.members.get(f"{self._wheel.dist_info}/entry_points.txt")
        if member is None:
            return {}
        try:
            scripts = entry_point_scripts(member.read().decode(), self._scheme.interpreter)
            bad = next((f"script {name!r}: {why}" for name in scripts if (why := unsafe(name))), None)
        except ValueError as error:
            bad = str(error)
        if bad:
            raise LayerError(f"{self._wheel.path}: {member.info.filename}: {bad}. {self._wheel.advice}")
        return scripts

    def _compile(self, bytecode: Bytecode) -> None:
        """Add byte code; it takes the place of what the wheel brings, which may be of other sources."""
        sources = {path: entry.source for path, (entry, _) in self._files.items()}
        for path, result in bytecode.compiled(sources):
            row = Recorded("sha256", bytes.fromhex(result.sha256), result.size)
            self._files[path] = (self._entry(path, result, 0o644), row)

    def _put_member(self, path: str, member: Member, *, metadata: str | None = None) -> None:
        """Add a file of the wheel; in site-packages it may be part of the ``metadata`` directory, and of no other."""
        top = path.removeprefix(f"{self._scheme.site_packages}/").partition("/")[0]
        if of_metadata(top) and top != metadata:
            raise LayerError(
                f"{self._wheel.path}: {member.info.filename} would be installed as metadata of a distribution, /{path}; "
                f"that of {self._wheel.label} is in {self._wheel.dist_info}. {self._wheel.advice}"
            )
        self._put(path, member, member.recorded, 0o755 if member.executable else 0o644)

    def _put_text(self, name: str, text: bytes) -> None:
        self._put(self._in_dist_info(name), Content(text), recorded(text), 0o644)

    def _put(self, path: str, source: Source, row: Recorded, mode: int) -> None:
        if path in self._files:
            raise LayerError(
                f"{self._wheel.path}: two of its files would be installed as /{path}. {self._wheel.advice}"
            )
        self._files[path] = (self._entry(path, source, mode), row)

    def _entry(self, path: str, source: Source, mode: int) -> Entry:
        return Entry(path, FILE, mode, source, owner=self._wheel.label)

    def _in_dist_info(self, name: str) -> str:
        return f"{self._scheme.site_packages}/{self._wheel.dist_info}/{name}"

    def _relative(self, path: str) -> str:
        return posixpath.relpath(path, self._scheme.site_packages)


def _add(files: dict[str, Entry], entry: Entry) -> None:
    """Add a file; one that is there already must have the same content and mode, and is kept once."""
    other = files.setdefault(entry.path, entry)
    if other is entry or (_same(other.source, entry.source) and other.mode == entry.mode):
        return
    raise LayerError(
        f"{other.owner} and {entry.owner} both install /{entry.path}, with different content.\n"
        f"  {other.owner}: sha256 {_digest(other.source)}, mode {other.mode:o}\n"
        f"  {entry.owner}: sha256 {_digest(entry.source)}, mode {entry.mode:o}\n"
        "  Drop one of the two packages from the requirements, or choose versions of which only one installs this "
        "file, and lock again."
    )


def _check_clashes(files: Iterable[Entry], excepted: Collection[str]) -> None:
    """Refuse paths that differ by a form of Unicode only, and those of one wheel that differ by case only.

    On Linux, where images run, names that differ in case are different: two distributions may be called so.

    Args:
        files: of the layer.
        excepted: owners whose files may differ by case.
    """
    anybody = Folded(case=False)
    own: dict[str, Folded] = {}
    for entry in files:
        seen = own.get(entry.owner) or own.setdefault(entry.owner, Folded(case=entry.owner not in excepted))
        other = seen.clash(entry.path) or (None if entry.path.isascii() else anybody.clash(entry.path))
        if other:
            raise LayerError(
                f"{entry.owner} installs {('/' + entry.path)!r}, which some file systems take for {('/' + other)!r}, "
                "installed as well: the two differ by case, or by the form of Unicode, only. Choose another version of "
                "the package, and lock again; where names of a wheel are meant to differ by case, "
                f"{SETTING}=case_clashes=yes."
            )


def _same(one: Source, other: Source) -> bool:
    return one.size == other.size and _digest(one) == _digest(other)


def _digest(source: Source) -> str:
    digest = hashlib.sha256()
    for chunk in source.chunks():
        digest.update(chunk)
    return digest.hexdigest()
