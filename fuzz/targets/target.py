"""What is fuzzed: a function of bytes that gives an outcome, or raises one of the errors that users are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random


class BrokenError(Exception):
    """An input was taken, and what came of it does not have the property that is checked."""


def expect(holds: bool, otherwise: str) -> None:
    """Check a property.

    Raises:
        BrokenError: it does not hold.
    """
    if not holds:
        raise BrokenError(otherwise)


@dataclass(frozen=True)
class Target:
    """Something that reads foreign input.

    Attributes:
        run: reads one input in a scratch directory, which is empty; returns what kind of input it was. Whatever it
            raises is a finding.
        seeds: inputs to begin with.
        mutate: makes another input of one; ``None``: bytes are changed only.
        modules: what is instrumented.
    """

    run: Callable[[bytes, Path], str]
    seeds: Callable[[], Sequence[bytes]]
    modules: tuple[str, ...]
    mutate: Callable[[bytes, Random], bytes] | None = None


def mutate_lines(*dictionary: str) -> Callable[[bytes, Random], bytes]:
    """Return a mutator of texts that moves, doubles, drops and joins lines and puts words of ``dictionary`` in."""
    words = [word.encode("utf-8", "surrogatepass") for word in dictionary]

    def mutate(data: bytes, random: Random) -> bytes:
        lines = data.split(b"\n")
        for _ in range(random.randint(1, 4)):
            at = random.randrange(len(lines)) if lines else 0
            line = lines[at] if lines else b""
            cut = random.randint(0, len(line))
            change = random.randrange(6)
            if change == 0:
                lines.insert(at, line)
            elif change == 1 and len(lines) > 1:
                del lines[at]
            elif change == 2:
                lines.insert(at, lines.pop(random.randrange(len(lines))) if lines else b"")
            elif lines:
                end = random.randint(cut, min(len(line), cut + 8))
                lines[at] = line[:cut] + random.choice(words) * random.choice([1, 1, 1, 30]) + line[end:]
        return b"\n".join(lines)

    return mutate
