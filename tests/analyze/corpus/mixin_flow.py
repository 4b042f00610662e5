"""Steps may come from classes that are no flows."""
# expect: static

import abc

from metaflow import FlowSpec, pypi, step


class Loading:
    source = "orders"

    @pypi(packages={"pandas": "2.2.3"})
    @step
    def start(self):
        self.next(self.work)

    def read(self):
        return self.source


class Finishing(abc.ABC):  # noqa: B024 - a mixin
    @step
    def end(self):
        pass


class MixinFlow(Loading, FlowSpec):
    @step
    def work(self):
        self.orders = self.read()
        self.next(self.end)

    end = Finishing.end


if __name__ == "__main__":
    MixinFlow()
