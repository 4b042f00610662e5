"""A requirements.txt, read by Metaflow's parser, gives @pypi_base its packages and its Python."""
# expect: dynamic (Config)

from metaflow import Config, FlowSpec, config_expr, pypi_base, requirements_txt_parser, step


@pypi_base(packages=config_expr("requirements.packages"), python=config_expr("requirements.python"))
class RequirementsTxtFlow(FlowSpec):
    requirements = Config("requirements", default="data/requirements.txt", parser=requirements_txt_parser)

    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    RequirementsTxtFlow()
