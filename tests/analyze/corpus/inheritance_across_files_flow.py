"""Base flow, mixin and constants come from packages of another import root; one step is replaced here."""
# expect: static
# roots: shared

from metaflow import pypi, step
from team.flows import TrainingFlow
from team.packages import MACHINE_LEARNING


class InheritanceAcrossFilesFlow(TrainingFlow):
    @pypi(packages=MACHINE_LEARNING | {"xgboost": "2.1.1"})
    @step
    def train(self):
        self.next(self.report)


if __name__ == "__main__":
    InheritanceAcrossFilesFlow()
