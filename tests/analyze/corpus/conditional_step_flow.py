"""A step that is only there under a condition, and a constant that depends on one."""
# expect: dynamic (if)

import sys

from metaflow import FlowSpec, pypi, step


class ConditionalStepFlow(FlowSpec):
    @step
    def start(self):
        self.next(self.work)

    if sys.platform != "win32":

        @pypi(packages={"pandas": "2.2.3"})
        @step
        def work(self):
            self.next(self.end)
    else:

        @pypi(packages={"pandas": "1.1.5"})
        @step
        def work(self):
            self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    ConditionalStepFlow()
