"""A Config with a default value in the flow itself."""
# expect: dynamic (Config)

from metaflow import Config, FlowSpec, pypi, step


class ConfigValueFlow(FlowSpec):
    needs = Config("needs", default_value={"packages": {"pandas": "2.2.3", "numpy": "2.1.0"}})

    @pypi(packages=needs.packages)
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    ConfigValueFlow()
