"""A StepMutator that takes decorators off its step and puts others in their place."""
# expect: dynamic (mutator @on_arm)

from metaflow import FlowSpec, StepMutator, kubernetes, pypi, resources, step


class on_arm(StepMutator):
    def mutate(self, mutable_step):
        mutable_step.remove_decorator("resources")
        mutable_step.add_decorator(
            kubernetes,
            deco_kwargs={"node_selector": {"kubernetes.io/arch": "arm64"}, "memory": 8000},
            duplicates=mutable_step.OVERRIDE,
        )


class RemovingMutatorFlow(FlowSpec):
    @on_arm
    @pypi(packages={"numpy": "2.1.0"})
    @kubernetes(cpu=16)
    @resources(gpu=1)
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    RemovingMutatorFlow()
