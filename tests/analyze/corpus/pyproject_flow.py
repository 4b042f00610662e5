"""A pyproject.toml, read by Metaflow's parser, gives all attributes of @pypi_base at once by ``**``."""
# expect: dynamic (Config)

from metaflow import Config, FlowSpec, pypi_base, pyproject_toml_parser, step

project = Config("project", default="data/team.toml", parser=pyproject_toml_parser)


@pypi_base(**project)
class PyprojectFlow(FlowSpec):
    project = project

    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    PyprojectFlow()
