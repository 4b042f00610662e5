"""One check, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

FLOW = ""
"""The step of a check that is of the whole flow."""


class Status(Enum):
    """How a check ended."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        step: whose image; :data:`FLOW` for what is of the whole flow.
        name: of the check.
        status: how it ended.
        text: what was found, or what is wrong and what to do.
    """

    step: str
    name: str
    status: Status
    text: str


Outcome = tuple[Status, str]
"""How a check ended, and its text."""
