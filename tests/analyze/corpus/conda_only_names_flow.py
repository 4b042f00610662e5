"""Conda packages that the Python index does not have: one is mapped by the user, one is left out."""
# expect: static
# conda-name: pytorch-cuda=
# conda-name: team-features=features

from metaflow import FlowSpec, conda, step


class CondaOnlyNamesFlow(FlowSpec):
    @conda(packages={"pytorch::pytorch": "2.4.1", "pytorch::pytorch-cuda": "12.1"})
    @step
    def start(self):
        self.next(self.end)

    @conda(packages={"team-features": "1.3", "py-xgboost": "2.1.1", "ruamel.yaml": ">=0.18"})
    @step
    def end(self):
        pass


if __name__ == "__main__":
    CondaOnlyNamesFlow()
