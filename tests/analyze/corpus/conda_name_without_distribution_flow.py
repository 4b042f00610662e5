"""A conda package that is no Python distribution, and of which nobody has said what to do with it."""
# expect: refused (pytorch-cuda)

from metaflow import FlowSpec, conda, step


class CondaNameWithoutDistributionFlow(FlowSpec):
    @conda(packages={"pytorch::pytorch": "2.4.1", "pytorch::pytorch-cuda": "12.1"})
    @step
    def start(self):
        pass


if __name__ == "__main__":
    CondaNameWithoutDistributionFlow()
