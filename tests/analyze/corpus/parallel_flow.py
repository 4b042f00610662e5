"""A gang of nodes: ``num_parallel`` and @parallel."""
# expect: static

from metaflow import FlowSpec, kubernetes, parallel, pypi, step


class ParallelFlow(FlowSpec):
    @step
    def start(self):
        self.next(self.train, num_parallel=4)

    @kubernetes(cpu=8, memory=32000, gpu=1)
    @pypi(packages={"torch": "2.4.1"})
    @parallel
    @step
    def train(self):
        self.next(self.join)

    @step
    def join(self, inputs):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    ParallelFlow()
