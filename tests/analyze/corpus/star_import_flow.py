"""``from metaflow import *`` brings the decorators without naming them."""
# ruff: noqa: F403, F405
# expect: static

from metaflow import *


class StarImportFlow(FlowSpec):
    @pypi(packages={"pandas": "2.2.3"})
    @resources(cpu=2, memory=2048)
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    StarImportFlow()
