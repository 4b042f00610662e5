"""The first and the last step may have names of their own, said by ``start`` and ``end`` of ``@step``."""
# expect: static

from metaflow import FlowSpec, step

FIRST = True


class RenamedEndsFlow(FlowSpec):
    @step(start=FIRST)
    def collect(self):
        self.next(self.publish)

    @step(end=True, node_info={"team": "reports"})
    def publish(self):
        print("done")


if __name__ == "__main__":
    RenamedEndsFlow()
