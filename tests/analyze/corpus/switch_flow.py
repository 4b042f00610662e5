"""A switch goes on to one of several steps, two cases to the same one."""
# expect: static

from metaflow import FlowSpec, step


class SwitchFlow(FlowSpec):
    @step
    def start(self):
        self.size = "large"
        self.next(
            {"small": self.locally, "medium": self.locally, "large": self.remotely},
            condition="size",
        )

    @step
    def locally(self):
        self.next(self.end)

    @step
    def remotely(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    SwitchFlow()
