"""Packages from a comprehension, from a function and from a file that is read when the flow is loaded."""
# expect: dynamic

import json
from pathlib import Path

from metaflow import FlowSpec, pypi, step

PINS = json.loads(Path(__file__).with_name("data").joinpath("packages.json").read_text(encoding="utf-8"))


def pinned(*names):
    return dict.fromkeys(names, "1.0")


class ComputedPackagesFlow(FlowSpec):
    @pypi(packages={name: "" for name in ("pandas", "numpy")})  # noqa: C420
    @step
    def start(self):
        self.next(self.called)

    @pypi(packages=pinned("alpha", "beta"))
    @step
    def called(self):
        self.next(self.end)

    @pypi(packages=PINS["train"])
    @step
    def end(self):
        pass


if __name__ == "__main__":
    ComputedPackagesFlow()
