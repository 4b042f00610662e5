"""A flow for a real run on Kubernetes: it retries, gives up, gathers, and fails where it is told to."""

import os
import sys
from importlib.metadata import distributions

from metaflow import FlowSpec, catch, current, environment, kubernetes, parallel, pypi, retry, step

FAIL_IN = "KUBERNETES_FLOW_FAILS_IN"


def look_around():
    """Return what a task runs on."""
    return {"python": sys.executable, "distributions": sorted(found.name.lower() for found in distributions())}


class KubernetesFlow(FlowSpec):
    """start ⇉ work (flaky, broken) ▶ gather ▶ assemble ⇉ gang ▶ finish ▶ end.

    ``gather`` and ``gang`` run on Kubernetes, the others where the command line says.
    """

    @step
    def start(self):
        """Split."""
        self.seen = look_around()
        self.items = ["flaky", "broken"]
        self.next(self.work, foreach="items")

    @catch(var="failure", print_exception=False)
    @retry(times=1, minutes_between_retries=0)
    @pypi(packages={"numpy": "2.5.5", "pandas": "3.1.1"})
    @step
    def work(self):
        """Work on one item, which may fail once, or always."""
        import numpy as np

        self.item = self.input
        self.seen = look_around()
        self.attempt = current.retry_count
        if self.item == "broken" or (self.item == "flaky" and self.attempt == 0):
            raise ValueError(f"{self.item} fails")
        self.total = int(np.arange(4).sum())
        self.next(self.gather)

    @kubernetes
    @environment(vars={FAIL_IN: os.environ.get(FAIL_IN, "")})
    @step
    def gather(self, inputs):
        """Join, or fail."""
        self.seen = look_around()
        self.failed = sorted(str(given.failure is not None) for given in inputs)
        self.totals = [given.total for given in inputs if given.failure is None]
        if os.environ[FAIL_IN] == "gather":
            raise ValueError("told to fail")
        self.next(self.assemble)

    @step
    def assemble(self):
        """Start a gang."""
        self.seen = look_around()
        self.next(self.gang, num_parallel=2)

    @kubernetes
    @parallel
    @step
    def gang(self):
        """Work beside another."""
        self.seen = look_around()
        self.node = current.parallel.node_index
        self.next(self.finish)

    @step
    def finish(self, inputs):
        """Join the gang."""
        self.seen = look_around()
        self.nodes = sorted(given.node for given in inputs)
        self.next(self.end)

    @step
    def end(self):
        """Stop."""
        self.seen = look_around()


if __name__ == "__main__":
    KubernetesFlow()
