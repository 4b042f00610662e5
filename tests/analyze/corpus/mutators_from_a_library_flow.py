"""Mutators from another directory: one adds a base and a decorator to all, one takes packages away."""
# expect: dynamic (mutator @standard)
# roots: shared

from metaflow import FlowSpec, pypi, retry, step
from team.mutators import standard, without_packages


@standard(python="3.11")
class MutatorsFromALibraryFlow(FlowSpec):
    @pypi(packages={"numpy": "2.1.0"})
    @step
    def start(self):
        self.next(self.light)

    @without_packages
    @pypi(packages={"torch": "2.4.1"})
    @retry(times=3)
    @step
    def light(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    MutatorsFromALibraryFlow()
