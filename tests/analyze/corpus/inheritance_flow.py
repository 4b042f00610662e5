"""A flow may inherit steps and flow decorators from a flow in the same file."""
# expect: static

from metaflow import FlowSpec, conda_base, project, step


@conda_base(packages={"pandas": "2.2.3"}, python="3.12")
class TeamFlow(FlowSpec):
    @step
    def start(self):
        self.next(self.work)

    @step
    def end(self):
        pass


@project(name="inheritance")
class InheritanceFlow(TeamFlow):
    @step
    def work(self):
        self.next(self.end)


if __name__ == "__main__":
    InheritanceFlow()
