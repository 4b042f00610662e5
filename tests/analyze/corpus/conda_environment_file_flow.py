"""A conda environment file, read by Metaflow's parser, gives @conda_base its packages and its Python."""
# expect: dynamic (Config)

from metaflow import Config, FlowSpec, conda_base, conda_environment_yml_parser, config_expr, step


@conda_base(packages=config_expr("environment.packages"), python=config_expr("environment.python"))
class CondaEnvironmentFileFlow(FlowSpec):
    environment = Config("environment", default="data/environment.yml", parser=conda_environment_yml_parser)

    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    CondaEnvironmentFileFlow()
