"""Steps that several base flows share."""

from metaflow import card, pypi, step

from ..packages import PLOTS


class Reporting:
    @card(type="blank")
    @pypi(packages={**PLOTS, "jinja2": "3.1.4"})
    @step
    def report(self):
        self.next(self.end)
