"""A split in a split, with a join for each, named in another order than they are defined in."""
# expect: static

from metaflow import FlowSpec, step


class NestedSplitsFlow(FlowSpec):
    @step
    def end(self):
        pass

    @step
    def outer_join(self, results):
        self.next(self.end)

    @step
    def inner_join(self, inputs):
        self.next(self.outer_join)

    @step
    def a(self):
        self.next(self.inner_join)

    @step
    def b(self):
        self.next(self.inner_join)

    @step
    def left(self):
        self.next(
            self.b,
            self.a,
        )

    @step
    def right(self):
        self.next(self.outer_join)

    @step
    def start(self):
        self.next(self.right, self.left)


if __name__ == "__main__":
    NestedSplitsFlow()
