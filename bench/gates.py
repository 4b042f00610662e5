"""Figures that a benchmark must reach, and the table that says whether it did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.table import Table


@dataclass(frozen=True)
class Gate:
    """A figure that must be reached."""

    what: str
    measured: float
    limit: float
    unit: str
    at_most: bool = False
    """Whether less is better."""

    @property
    def reached(self) -> bool:
        """Whether it is."""
        return self.measured <= self.limit if self.at_most else self.measured >= self.limit


def verdicts(gates: Iterable[Gate]) -> Table:
    """Return the table of ``gates``."""
    table = Table()
    for heading in ("gate", "measured", "required", ""):
        table.add_column(heading, justify="right" if heading in ("measured", "required") else "left", no_wrap=True)
    for gate in gates:
        bound = "at most" if gate.at_most else "at least"
        verdict = "reached" if gate.reached else "MISSED"
        table.add_row(gate.what, f"{gate.measured:.1f} {gate.unit}", f"{bound} {gate.limit:g} {gate.unit}", verdict)
    return table
