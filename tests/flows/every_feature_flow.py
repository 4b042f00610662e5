"""Every kind of step and every decorator of flows that Argo Workflows runs, each step with packages of its own."""

from metaflow import (
    FlowSpec,
    Parameter,
    catch,
    current,
    exit_hook,
    kubernetes,
    parallel,
    project,
    pypi,
    resources,
    retry,
    schedule,
    step,
    timeout,
    trigger,
)


def tell(run):
    """Tell that the flow ended."""
    print(f"{run} ended")


@exit_hook(on_success=[tell], on_error=[tell])
@project(name="every_feature")
@schedule(daily=True)
@trigger(event={"name": "arrived", "parameters": {"size": "bytes"}})
class EveryFeatureFlow(FlowSpec):
    """start ⇉ train ▶ compare ▶ gather ⇉ gang ▶ disband ▶ (big | small) ▶ end."""

    size = Parameter("size", type=int, default=3)

    @retry(times=2)
    @step
    def start(self):
        """Split."""
        self.items = list(range(self.size))
        self.next(self.train, foreach="items")

    @catch(var="failure")
    @retry(times=1, minutes_between_retries=0)
    @timeout(minutes=5)
    @resources(cpu=1, memory=1024)
    @pypi(packages={"numpy": "2.5.5"})
    @step
    def train(self):
        """Work on one item."""
        self.result = self.input
        self.next(self.compare)

    @kubernetes(cpu=2)
    @step
    def compare(self, inputs):
        """Join."""
        self.results = [given.result for given in inputs]
        self.next(self.gather)

    @step
    def gather(self):
        """Start a gang."""
        self.next(self.gang, num_parallel=2)

    @pypi(packages={"pandas": "3.1.1"})
    @parallel
    @step
    def gang(self):
        """Work beside the others."""
        self.node = current.parallel.node_index
        self.next(self.disband)

    @step
    def disband(self, inputs):
        """Join the gang."""
        self.next(self.decide)

    @step
    def decide(self):
        """Choose what comes next."""
        self.kind = "big" if self.size > 2 else "small"
        self.next({"big": self.big, "small": self.small}, condition="kind")

    @pypi(packages={"scipy": "1.18.0"})
    @step
    def big(self):
        """Be chosen, or not."""
        self.next(self.end)

    @pypi(disabled=True)
    @step
    def small(self):
        """Be chosen, or not."""
        self.next(self.end)

    @step
    def end(self):
        """Stop."""


if __name__ == "__main__":
    EveryFeatureFlow()
