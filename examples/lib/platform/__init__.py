"""What a platform team decides for the flows of all teams."""

from typing import Any

from metaflow import FlowMutator


class platform_defaults(FlowMutator):
    """Gives the flow its Python, and every step its retries.

    Args:
        python: version (X.Y) of Python for every step.
        retries: how often a failing task is tried again.
    """

    def init(self, *, python: str, retries: int) -> None:
        """Keep the arguments."""
        self.python = python
        self.retries = retries

    def pre_mutate(self, mutable_flow: Any) -> None:
        """Add the decorators, before Metaflow looks at any."""
        mutable_flow.add_decorator("pypi_base", deco_kwargs={"python": self.python})
        for _, step in mutable_flow.steps:
            step.add_decorator("retry", deco_kwargs={"times": self.retries})
