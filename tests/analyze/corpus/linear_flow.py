"""Three steps in a row without any package: the smallest flow with a middle."""
# expect: static

from metaflow import FlowSpec, step


class LinearFlow(FlowSpec):
    @step
    def start(self):
        self.numbers = [1, 2, 3]
        self.next(self.add)

    @step
    def add(self):
        self.total = sum(self.numbers)
        self.next(self.end)

    @step
    def end(self):
        print(self.total)


if __name__ == "__main__":
    LinearFlow()
