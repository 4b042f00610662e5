"""How large what a wheel unpacks to may be (standard library only)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

SETTING = "--@mfbazel//rules:wheel_limits"
"""The build setting that sets them."""

_SIZE = re.compile(r"([0-9]{1,15})\s*(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)?")
_UNITS = {"": 1, "B": 1} | {
    f"{prefix}{unit}": base**power
    for unit, base in (("B", 1000), ("iB", 1024))
    for power, prefix in enumerate(("k" if unit == "B" else "K", "M", "G", "T"), 1)
}


@dataclass(frozen=True)
class Limits:
    """What a wheel may be. The defaults are several times what the largest wheels of today need.

    Attributes:
        unpacked: bytes of all its files.
        ratio: those bytes, divided by those of the wheel: deflate reaches 1032 (a file of zeros), programs 2 to 5. Of
            the wheel as a whole, as one file may be sparse; wheels that unpack to at most :data:`SMALL` may have any.
        files: their number.
        case_clashes: whether two of its files may have names that differ in upper and lower case only.
    """

    unpacked: int = 32 * 1000**3
    ratio: int = 100
    files: int = 250_000
    case_clashes: bool = False

    def exceeded(self, files: int, unpacked: int, size: int) -> str | None:
        """Return what is exceeded by a wheel of ``size`` bytes, ``None`` if nothing is.

        Args:
            files: number of its files.
            unpacked: bytes of them, in all.
            size: bytes of the wheel itself.
        """
        if files > self.files:
            return f"it has {files} files, and {self.files} are allowed ({_how('files', files)})"
        if unpacked > self.unpacked:
            return f"it unpacks to {unpacked} bytes, and {self.unpacked} are allowed ({_how('unpacked', unpacked)})"
        if unpacked > SMALL and unpacked > self.ratio * size:
            ratio = -(-unpacked // max(size, 1))
            return (
                f"its {size} bytes unpack to {unpacked}, {ratio} times as much, and {self.ratio} times is allowed "
                f"({_how('ratio', ratio)})"
            )
        return None


SMALL = 64 << 20
"""Up to so many bytes of content no ratio is asked for: they harm nobody."""


def parse_limits(text: str) -> Limits:
    """Read ``unpacked=64GB,ratio=500,files=500000,case_clashes=yes``; what is left out keeps its default.

    Raises:
        ValueError: a key or a value is another; the message names it, and what is expected.
    """
    limits = Limits()
    for item in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = (part.strip() for part in item.partition("="))
        if key == "case_clashes" and value in ("yes", "no"):
            limits = replace(limits, case_clashes=value == "yes")
        elif key in ("ratio", "files") and value.isascii() and value.isdigit() and 0 < len(value) < 16:
            limits = replace(limits, ratio=int(value)) if key == "ratio" else replace(limits, files=int(value))
        elif key == "unpacked" and (match := _SIZE.fullmatch(value)):
            limits = replace(limits, unpacked=int(match[1]) * _UNITS[match[2] or ""])
        else:
            raise ValueError(
                f"{item!r} is no limit of wheels: unpacked=SIZE (as 64GB), ratio=N, files=N and case_clashes=yes are, "
                f"separated by commas ({SETTING})"
            )
    return limits


def _how(key: str, value: int) -> str:
    return f"where it is meant to be so: {SETTING}={key}={value}"
