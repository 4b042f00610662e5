"""Conda names with a channel, and conda names whose distribution is called otherwise."""
# expect: static

from metaflow import FlowSpec, conda, conda_base, step


@conda_base(packages={"conda-forge::pandas": "2.2.3"})
class CondaChannelsFlow(FlowSpec):
    @conda(packages={"pytorch::pytorch": "2.4.1", "conda-forge::numpy": "1.26.4"})
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    CondaChannelsFlow()
