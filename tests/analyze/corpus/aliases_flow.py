"""Metaflow's names under other names: ``import … as``, ``from … import … as``, and with the module in front."""
# expect: static

import metaflow
import metaflow as mf
from metaflow import FlowSpec as Spec
from metaflow import conda as from_conda
from metaflow import pypi as needs
from metaflow import step as task


@mf.pypi_base(python="3.12")
class AliasesFlow(Spec):
    @needs(packages={"pandas": "2.2.3"})
    @task
    def start(self):
        self.next(self.second)

    @mf.pypi(packages={"numpy": "2.1.0"})
    @mf.resources(cpu=2)
    @mf.step
    def second(self):
        self.next(self.third)

    @metaflow.retry(times=2)
    @metaflow.step
    def third(self):
        self.next(self.end)

    @from_conda
    @mf.step
    def end(self):
        pass


if __name__ == "__main__":
    AliasesFlow()
