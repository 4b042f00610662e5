"""A Config without a default: the file and the value are named on the command line."""
# expect: dynamic (Config)
# config: packages=data/packages.json
# config-value: hardware={"gpu": 1}

from metaflow import Config, FlowSpec, kubernetes, pypi, step


class ConfigGivenFlow(FlowSpec):
    packages = Config("packages", required=True)
    hardware = Config("hardware", required=True)

    @pypi(packages=packages.train)
    @kubernetes(gpu=hardware.gpu)
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    ConfigGivenFlow()
