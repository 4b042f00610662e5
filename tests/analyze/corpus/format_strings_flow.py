"""Versions and images put together with f-strings and ``+`` from constants."""
# expect: static

from metaflow import FlowSpec, batch, pypi, step

MAJOR = 2
MINOR = "2"
PANDAS = f"{MAJOR}.{MINOR}.3"
REGISTRY = "registry.example.com" + "/ml"
TAG = "1.4"


class FormatStringsFlow(FlowSpec):
    @pypi(packages={"pandas": PANDAS, "pandas" + "-stubs": f"~={MAJOR}.{MINOR}"}, python=f"3.{12}")
    @batch(image=f"{REGISTRY}/training:{TAG}")
    @step
    def start(self):
        self.next(self.end)

    @pypi(packages={"numpy": ">=2," "<3"})  # fmt: skip
    @batch(image=REGISTRY + "/plain")
    @step
    def end(self):
        pass


if __name__ == "__main__":
    FormatStringsFlow()
