"""Packages of @pypi_base hold for every step; a step's own @pypi adds to them and wins."""
# expect: static

from metaflow import FlowSpec, pypi, pypi_base, step


@pypi_base(packages={"pandas": "2.2.3", "numpy": "1.26.4"}, python="3.12")
class PypiBaseFlow(FlowSpec):
    @step
    def start(self):
        self.next(self.train)

    @pypi(packages={"numpy": "2.1.0", "scikit-learn": "1.5.2"}, python="3.11")
    @step
    def train(self):
        self.next(self.report)

    @pypi
    @step
    def report(self):
        self.next(self.end)

    @pypi(packages={})
    @step
    def end(self):
        pass


if __name__ == "__main__":
    PypiBaseFlow()
