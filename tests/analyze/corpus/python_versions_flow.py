"""``python`` of the step, of the flow, and of nobody."""
# expect: static

from metaflow import FlowSpec, conda, conda_base, step

NEWEST = "3.13"


@conda_base(python="3.10")
class PythonVersionsFlow(FlowSpec):
    @conda(python="3.12.4")
    @step
    def start(self):
        self.next(self.newest)

    @conda(packages={"numpy": "2.1.0"}, python=NEWEST)
    @step
    def newest(self):
        self.next(self.inherited)

    @conda(python=None)
    @step
    def inherited(self):
        self.next(self.end)

    @conda(python="")
    @step
    def end(self):
        pass


if __name__ == "__main__":
    PythonVersionsFlow()
