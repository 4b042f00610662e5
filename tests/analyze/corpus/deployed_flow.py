"""Decorators of the flow that say when it runs and to which project it belongs."""
# expect: static

from metaflow import FlowSpec, Parameter, project, pypi_base, schedule, step, trigger


@trigger(events=["orders_updated", "prices_updated"])
@schedule(cron="0 6 * * *", timezone="Europe/Berlin")
@project(name="pricing")
@pypi_base(packages={"pandas": "2.2.3"})
class DeployedFlow(FlowSpec):
    limit = Parameter("limit", type=int, default=10, help="How many orders to read.")

    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    DeployedFlow()
