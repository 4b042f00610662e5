"""Imports of packages that need not be installed where the flow is read."""
# expect: static
# stubs: sklearn torch

import torch
from metaflow import FlowSpec, pypi_base, step
from sklearn.ensemble import RandomForestClassifier


@pypi_base(packages={"torch": "2.4.1", "scikit-learn": "1.5.2"})
class ThirdPartyImportsFlow(FlowSpec):
    @step
    def start(self):
        self.model = RandomForestClassifier()
        self.next(self.end)

    @step
    def end(self):
        print(torch.tensor([1, 2]))


if __name__ == "__main__":
    ThirdPartyImportsFlow()
