"""File lists of layers (``<name>.files.tsv``) and the check that no two layers of an image disagree."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mfbazel.layer.errors import LayerError
from mfbazel.wheel.paths import Folded


@dataclass(frozen=True, order=True, slots=True)
class ListedFile:
    """A regular file or a link of a layer.

    Attributes:
        path: relative to the image's root.
        content: sha256 of the content in hex, or ``-> target``.
        distribution: whose it is, for example ``numpy==2.5.5``.
    """

    path: str
    content: str
    distribution: str


def to_tsv(files: Iterable[ListedFile]) -> bytes:
    """Return the file list's content: a line per file, three columns, sorted by path.

    Raises:
        LayerError: a path or the target of a link is no Unicode, or holds what separates columns and lines.
    """
    lines = []
    for file in sorted(files):
        columns = (file.path, file.content, file.distribution)
        line = "\t".join(columns)
        if "\n" in line or line.count("\t") != 2 or not (line.isascii() or _is_text(line)):
            raise LayerError(
                f"the names {columns!r} cannot be listed: tabs, line ends and names that are not UTF-8 are not taken. "
                "Rename the file, or leave it out."
            )
        lines.append(f"{line}\n")
    return "".join(lines).encode()


def _is_text(line: str) -> bool:
    """Tell whether a line has no half of a character (what names that are not UTF-8 are read as)."""
    return not any("\ud800" <= char <= "\udfff" for char in line)


def read_tsv(path: Path) -> list[ListedFile]:
    """Read a file list.

    Raises:
        LayerError: the file is missing, or a line has not three columns.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LayerError(f"cannot read the file list {path}: {error}") from error
    files = []
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), 1):
        columns = line.split("\t")
        if len(columns) != 3:
            raise LayerError(
                f"{path}:{number}: three columns are expected (path, sha256, distribution), not {len(columns)}"
            )
        files.append(ListedFile(*columns))
    return files


def check_clashes(lists: Iterable[Path], image: str | None = None) -> int:
    """Check that the layers of one image agree, and return the number of their files.

    Args:
        lists: the file lists of the layers.
        image: the image's name, for the error.

    Raises:
        LayerError: two layers hold one path with different content, one has a file where another has a directory, or
            two paths are the same text in two forms of Unicode; both distributions, the path and the image are named.
    """
    forms = Folded(case=False)
    seen: dict[str, tuple[ListedFile, Path]] = {}
    for tsv in lists:
        for file in read_tsv(tsv):
            other, source = seen.setdefault(file.path, (file, tsv))
            if other.content != file.content:
                raise _clash(file.path, (other, source), (file, tsv), "with different content", image)
            if not file.path.isascii() and (same := forms.clash(file.path)):
                there = seen.get(same, (file, tsv))
                raise _clash(file.path, there, (file, tsv), f"one as {same!r}, another form of the same text", image)
    for path, here in seen.items():
        for parent in _parents(path):
            if parent in seen:
                raise _clash(parent, seen[parent], here, f"as a file and as the directory of {path}", image)
    return len(seen)


def _parents(path: str) -> Iterable[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _clash(
    path: str, first: tuple[ListedFile, Path], second: tuple[ListedFile, Path], how: str, image: str | None
) -> LayerError:
    where = f" in image {image}" if image else ""
    return LayerError(
        f"{first[0].distribution} and {second[0].distribution} both install /{path}{where}, {how}.\n"
        f"  {first[0].distribution}: {first[0].content} ({first[1].name})\n"
        f"  {second[0].distribution}: {second[0].content} ({second[1].name})\n"
        "  Which one a program would see depends on the order of the layers. Drop one of the two packages from the "
        "requirements, or choose versions of which only one installs this file, and lock again."
    )
