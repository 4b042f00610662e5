"""Reading tars that others made: what :mod:`tarfile` raises, and a bound of what it takes into memory."""

from __future__ import annotations

import tarfile

DAMAGED = (tarfile.TarError, EOFError, ValueError, LookupError, ArithmeticError)
"""What :mod:`tarfile` raises for archives that are damaged, or made to look so; the last three of extended headers."""

_LONGEST = 1 << 20
"""Bytes: paths have at most 4 KiB, attributes 64 KiB."""

_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class Member(tarfile.TarInfo):
    """An entry whose extended header has a usual length: it is read as one, and may claim any."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        # tarfile has no public place between reading a header and what it extends; a test shows that this one is.
        if self.type in _EXTENDED and self.size > _LONGEST:
            raise tarfile.ReadError(f"an extended header has {self.size} bytes; at most {_LONGEST} are expected")
        member: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return member
