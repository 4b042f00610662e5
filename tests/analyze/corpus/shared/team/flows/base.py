"""A base flow that the team's flows inherit from."""

import metaflow as mf

from team.packages import MACHINE_LEARNING, PYTHON

from .steps import Reporting


@mf.pypi_base(packages={"requests": "2.32.3"}, python=PYTHON)
class TrainingFlow(Reporting, mf.FlowSpec):
    @mf.step
    def start(self):
        self.next(self.train)

    @mf.pypi(packages=MACHINE_LEARNING)
    @mf.resources(cpu=8, memory=16384)
    @mf.step
    def train(self):
        self.next(self.report)

    @mf.step
    def end(self):
        pass
