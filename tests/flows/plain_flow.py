"""What Step Functions, Airflow and Batch run: splits and joins, retries, a project and a schedule."""

from metaflow import FlowSpec, project, pypi, resources, retry, schedule, step, timeout


@project(name="plain")
@schedule(daily=True)
class PlainFlow(FlowSpec):
    """start ⇉ (left | right) ▶ meet ▶ spread ⇉ train ▶ compare ▶ end."""

    @step
    def start(self):
        """Split in two."""
        self.next(self.left, self.right)

    @resources(memory=1024)
    @step
    def left(self):
        """Work."""
        self.next(self.meet)

    @retry(times=2)
    @step
    def right(self):
        """Work elsewhere."""
        self.next(self.meet)

    @step
    def meet(self, inputs):
        """Join."""
        self.next(self.spread)

    @step
    def spread(self):
        """Split by items."""
        self.items = [1, 2]
        self.next(self.train, foreach="items")

    @timeout(minutes=5)
    @pypi(packages={"numpy": "2.5.5"})
    @step
    def train(self):
        """Work on one item."""
        self.next(self.compare)

    @step
    def compare(self, inputs):
        """Join."""
        self.next(self.end)

    @step
    def end(self):
        """Stop."""


if __name__ == "__main__":
    PlainFlow()
