"""Dictionaries put together in every way that needs no running: ``**``, ``|``, ``dict(…)``, by key."""
# expect: static

from metaflow import FlowSpec, pypi, step

BASE = {"numpy": "2.1.0", "pandas": "2.2.0"}
NEWER = dict(BASE, pandas="2.2.3")
STACKS = {"plots": {"matplotlib": "3.9.2"}, "models": {"scikit-learn": "1.5.2"}}
ALL = {**NEWER, **STACKS["plots"], "tqdm": ""}


class DictionariesFlow(FlowSpec):
    @pypi(packages={**BASE, "scipy": "1.14.1"})
    @step
    def start(self):
        self.next(self.union)

    @pypi(packages=BASE | {"pandas": "2.2.3"})
    @step
    def union(self):
        self.next(self.called)

    @pypi(packages=dict(tqdm="4.66.5", **STACKS["models"]))
    @step
    def called(self):
        self.next(self.everything)

    @pypi(packages=ALL)
    @step
    def everything(self):
        self.next(self.end)

    @pypi(packages=dict(BASE))
    @step
    def end(self):
        pass


if __name__ == "__main__":
    DictionariesFlow()
