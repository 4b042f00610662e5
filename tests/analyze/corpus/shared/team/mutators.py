"""Mutators of the team."""

from metaflow import FlowMutator, StepMutator


class standard(FlowMutator):
    """Gives each step a retry, and puts the team's Python on it."""

    def init(self, python="3.12"):
        self.python = python

    def pre_mutate(self, mutable_flow):
        mutable_flow.add_decorator("pypi_base", deco_kwargs={"python": self.python, "packages": {"pandas": "2.2.3"}})
        for _, each in mutable_flow.steps:
            each.add_decorator("retry", deco_kwargs={"times": 1}, duplicates=each.IGNORE)


class without_packages(StepMutator):
    """Takes the packages off a step again."""

    def mutate(self, mutable_step):
        mutable_step.remove_decorator("pypi")
