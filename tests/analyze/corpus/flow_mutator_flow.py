"""A FlowMutator that gives every step its packages while the flow starts."""
# expect: dynamic (mutator @needs_pandas)

from metaflow import FlowMutator, FlowSpec, pypi, step


class needs_pandas(FlowMutator):
    def pre_mutate(self, mutable_flow):
        for _, each in mutable_flow.steps:
            each.add_decorator("pypi", deco_kwargs={"packages": {"pandas": "2.2.3"}}, duplicates=each.IGNORE)


@needs_pandas
class FlowMutatorFlow(FlowSpec):
    @step
    def start(self):
        self.next(self.train)

    @pypi(packages={"scikit-learn": "1.5.2"})
    @step
    def train(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    FlowMutatorFlow()
