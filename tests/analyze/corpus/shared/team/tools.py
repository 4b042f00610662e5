"""What the team's flows import: Metaflow's names, some under shorter ones."""

from metaflow import FlowSpec as Flow
from metaflow import conda, kubernetes, step
from metaflow import pypi as needs

from .packages import NUMERICS

needs_numbers = needs(packages=NUMERICS)

__all__ = ["Flow", "conda", "kubernetes", "needs", "needs_numbers", "step"]
