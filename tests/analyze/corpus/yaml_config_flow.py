"""A Config in YAML; its values decide about hardware, the image and whether an environment is used at all."""
# expect: dynamic (Config)

from metaflow import Config, FlowSpec, config_expr, kubernetes, project, pypi, step, yaml_parser


@project(name=config_expr("settings.project"))
class YamlConfigFlow(FlowSpec):
    settings = Config("settings", default="data/settings.yaml", parser=yaml_parser)

    @kubernetes(image=settings.image, cpu=settings.cpu, node_selector=settings.selector)
    @step
    def start(self):
        self.next(self.end)

    @pypi(packages=settings.packages, disabled=settings.offline)
    @step
    def end(self):
        pass


if __name__ == "__main__":
    YamlConfigFlow()
