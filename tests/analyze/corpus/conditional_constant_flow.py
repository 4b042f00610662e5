"""A constant that is chosen when the file is loaded."""
# expect: dynamic (PACKAGES)

import os

from metaflow import FlowSpec, pypi, step

PACKAGES = {"torch": "2.4.1"}
if os.environ.get("NO_SUCH_VARIABLE"):
    PACKAGES = {"torch": "2.3.0"}


class ConditionalConstantFlow(FlowSpec):
    @pypi(packages=PACKAGES)
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    ConditionalConstantFlow()
