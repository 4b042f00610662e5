"""A step names a package otherwise than the flow does: to Metaflow these are two entries."""
# expect: static

from metaflow import FlowSpec, pypi, pypi_base, step


@pypi_base(packages={"scikit_learn": ">=1.4"})
class SamePackageTwiceFlow(FlowSpec):
    @pypi(packages={"Scikit-Learn": "1.5.2"})
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    SamePackageTwiceFlow()
