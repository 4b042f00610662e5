"""A StepMutator that adds packages to the one step that it stands on, and takes what it is told as arguments."""
# expect: dynamic (mutator @trains)

from metaflow import FlowSpec, StepMutator, resources, step


class trains(StepMutator):
    def init(self, version, gpus=0):
        self.version = version
        self.gpus = gpus

    def mutate(self, mutable_step):
        mutable_step.add_decorator("pypi", deco_kwargs={"packages": {"torch": self.version}})
        if self.gpus:
            mutable_step.add_decorator(resources, deco_kwargs={"gpu": self.gpus, "memory": 16000})


class StepMutatorFlow(FlowSpec):
    @step
    def start(self):
        self.next(self.train)

    @trains("2.4.1", gpus=2)
    @step
    def train(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    StepMutatorFlow()
