"""Two bases with a base in common: Python's order of resolution says whose step counts."""
# expect: static

from metaflow import FlowSpec, pypi, step


class Common(FlowSpec):
    @pypi(packages={"pandas": "2.0.0"})
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


class First(Common):
    pass


class Second(Common):
    @pypi(packages={"pandas": "2.2.3"})
    @step
    def start(self):
        self.next(self.end)


class DiamondFlow(First, Second):
    pass


if __name__ == "__main__":
    DiamondFlow()
