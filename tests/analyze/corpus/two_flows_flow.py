"""Two flows in one file: the one that the file starts is meant."""
# expect: static

from metaflow import FlowSpec, pypi, step


class SmallFlow(FlowSpec):
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


class TwoFlowsFlow(FlowSpec):
    @pypi(packages={"pandas": "2.2.3"})
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    TwoFlowsFlow()
