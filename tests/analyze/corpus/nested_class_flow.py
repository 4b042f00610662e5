"""Classes and functions inside the flow and its steps bring no steps."""
# expect: static

from metaflow import FlowSpec, pypi, step


class NestedClassFlow(FlowSpec):
    class Settings:
        packages = ("pandas",)

        def start(self):
            return self.packages

    @pypi(packages={"pandas": "2.2.3"})
    @step
    def start(self):
        class Row:
            def next(self, where):
                return where

        def helper(other):
            other.next(other)

        helper(Row())
        self.packages = self.Settings().start()
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    NestedClassFlow()
