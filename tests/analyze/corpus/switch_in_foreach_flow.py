"""A switch inside a foreach: its branches meet in a step before the join."""
# expect: static

from metaflow import FlowSpec, step


class SwitchInForeachFlow(FlowSpec):
    @step
    def start(self):
        self.sizes = [1, 100]
        self.next(self.look, foreach="sizes")

    @step
    def look(self):
        self.kind = "large" if self.input > 10 else "small"
        self.next({"large": self.large, "small": self.small}, condition="kind")

    @step
    def large(self):
        self.next(self.meet)

    @step
    def small(self):
        self.next(self.meet)

    @step
    def meet(self):
        self.next(self.join)

    @step
    def join(self, inputs):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    SwitchInForeachFlow()
