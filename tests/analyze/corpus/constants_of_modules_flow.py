"""Packages, Python and images from constants of other modules, by name, by attribute and by key."""
# expect: static
# roots: shared

import team.packages
from metaflow import FlowSpec, kubernetes, pypi, step
from team import packages as versions
from team.packages import IMAGES, PYTHON


class ConstantsOfModulesFlow(FlowSpec):
    @pypi(packages=versions.MACHINE_LEARNING, python=PYTHON)
    @kubernetes(image=IMAGES["gpu"], gpu=1)
    @step
    def start(self):
        self.next(self.report)

    @pypi(packages=team.packages.PLOTS, python=team.packages.PYTHON)
    @kubernetes(image=team.packages.IMAGES["cpu"])
    @step
    def report(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    ConstantsOfModulesFlow()
