"""A FlowMutator reads the Config and gives each step what is written there under its name."""
# expect: dynamic

from metaflow import Config, FlowMutator, FlowSpec, step


class configured(FlowMutator):
    def pre_mutate(self, mutable_flow):
        settings = dict(mutable_flow.configs)["settings"]
        for name, each in mutable_flow.steps:
            packages = settings.packages.get(name)
            if packages:
                each.add_decorator("pypi", deco_kwargs={"packages": dict(packages)})
                each.add_decorator("kubernetes", deco_kwargs={"image": "registry.example.com/a:1", "gpu": 1})


@configured
class MutatorWithConfigFlow(FlowSpec):
    settings = Config("settings", default="data/settings.json")

    @step
    def start(self):
        self.next(self.train)

    @step
    def train(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    MutatorWithConfigFlow()
