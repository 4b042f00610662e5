"""Packages, Python and resources from a Config file, by ``config_expr`` and by the Config's own attributes."""
# expect: dynamic (config_expr)

from metaflow import Config, FlowSpec, config_expr, pypi, pypi_base, resources, step


@pypi_base(python=config_expr("settings.python"), packages=config_expr("settings.packages.base"))
class ConfigExprFlow(FlowSpec):
    settings = Config("settings", default="data/settings.json")

    @step
    def start(self):
        self.next(self.train)

    @pypi(packages=settings.packages.train)
    @resources(cpu=settings.cpu, memory=config_expr("settings.gigabytes * 1024"))
    @step
    def train(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    ConfigExprFlow()
