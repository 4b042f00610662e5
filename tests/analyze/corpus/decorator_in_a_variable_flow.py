"""A decorator with its arguments may be kept in a variable and be used for several steps."""
# expect: static

from metaflow import FlowSpec, pypi, step

science = pypi(packages={"numpy": "2.1.0", "scipy": "1.14.1"})


class DecoratorInAVariableFlow(FlowSpec):
    @science
    @step
    def start(self):
        self.next(self.end)

    @science
    @step
    def end(self):
        pass


if __name__ == "__main__":
    DecoratorInAVariableFlow()
