"""Transitions over several lines, after nested functions, with more statements before the last one."""
# expect: static

from metaflow import FlowSpec, step


class SpreadTransitionsFlow(FlowSpec):
    @step
    def start(self):
        def later():
            self.next(self.end)

        self.later = later.__name__
        self.items = list(range(3))
        if not self.items:
            raise ValueError("nothing to do")
        (
            self.next(
                # each item by itself
                self.each,
                foreach="items",
            )
        )

    @step
    def each(self):
        for number in range(3):
            print(number)
        else:
            print("done")
        self.next(self.join)  # the join

    @step
    def join(self, inputs):
        try:
            self.merge_artifacts(inputs, exclude=["later"])
        finally:
            print("merged")
        self.next(self.end)

    @step
    def end(self):
        return


if __name__ == "__main__":
    SpreadTransitionsFlow()
