"""A switch that goes back to itself until it has converged, which is the one loop that Metaflow allows."""
# expect: static

from metaflow import FlowSpec, pypi, step


class SwitchLoopFlow(FlowSpec):
    @step
    def start(self):
        self.error = 1.0
        self.next(self.train)

    @pypi(packages={"numpy": "2.1.0"})
    @step
    def train(self):
        self.error /= 2
        self.state = "again" if self.error > 0.1 else "done"
        self.next({"again": self.train, "done": self.end}, condition="state")

    @step
    def end(self):
        pass


if __name__ == "__main__":
    SwitchLoopFlow()
