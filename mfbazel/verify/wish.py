"""What is to be checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mfbazel.sign import Signing
from mfbazel.verify.locked import Locked


@dataclass(frozen=True)
class Wish:
    """What is to be checked.

    Attributes:
        signing: whose signatures count; ``None``: none are looked at.
        locked: the lock to compare with; ``None``: nothing is compared.
        expected: keys of :data:`mfbazel.sign.documents.KINDS` that must be attached.
        built: step to digest as the workspace builds it; ``None``: not compared.
        steps: names of the steps; empty for all.
        blobs: whether blobs are read and hashed, and not only asked for.
        label: of the flow that must be deployed; empty for any.
        foreign: names of the steps whose images are not made from the lock, and have no documents.
    """

    signing: Signing | None = None
    locked: Locked | None = None
    expected: Sequence[str] = ()
    built: Mapping[str, str] | None = None
    steps: Collection[str] = ()
    blobs: bool = False
    label: str = ""
    foreign: Collection[str] = ()
