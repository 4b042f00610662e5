"""@pypi takes packages from version control and from URLs, in the key or in the version."""
# expect: static

from metaflow import FlowSpec, pypi, step


class PypiUrlsFlow(FlowSpec):
    @pypi(packages={"features@git+https://github.com/example/features.git": "@v1.4"})
    @step
    def start(self):
        self.next(self.wheel)

    @pypi(packages={"model": "@https://files.example.com/model-1.0-py3-none-any.whl"})
    @step
    def wheel(self):
        self.next(self.end)

    @pypi(packages={"features[plots]@git+https://github.com/example/features.git@main": ""})
    @step
    def end(self):
        pass


if __name__ == "__main__":
    PypiUrlsFlow()
