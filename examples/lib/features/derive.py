"""Plain-Python feature derivation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TypedDict


class Customer(TypedDict):
    """What is known of one customer at the end of a month."""

    customer: int
    """Number of the customer, from 0."""
    tenure_months: int
    """Months since the first contract, at least 1."""
    monthly_charge: float
    """Charge per month, in the currency of the contract."""
    calls_to_support: int
    """Calls to support in the last 90 days."""
    yearly_contract: bool
    """Whether the contract runs for a year (else for a month)."""
    churned: bool
    """Whether the customer left in the month after."""


FEATURES = ("log_tenure", "monthly_charge", "calls_per_year_of_tenure", "yearly_contract")
"""Names of the features, in the order of the columns of :func:`matrix`."""


def derive(customer: Customer) -> dict[str, float]:
    """Return the features of ``customer`` by name, one for each of :data:`FEATURES`.

    Raises:
        ValueError: the tenure is less than one month.
    """
    tenure = customer["tenure_months"]
    if tenure < 1:
        raise ValueError(f"customer {customer['customer']}: tenure_months is {tenure}, expected at least 1")
    return {
        "log_tenure": math.log(tenure),
        "monthly_charge": customer["monthly_charge"],
        "calls_per_year_of_tenure": customer["calls_to_support"] * 12 / tenure,
        "yearly_contract": float(customer["yearly_contract"]),
    }


def matrix(rows: Iterable[Mapping[str, float]]) -> list[list[float]]:
    """Return one list of numbers per row, its columns ordered as :data:`FEATURES`."""
    return [[float(row[name]) for name in FEATURES] for row in rows]
