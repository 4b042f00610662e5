"""A foreach in a foreach, a split inside, and a join for each of them."""
# expect: static

from metaflow import FlowSpec, step


class NestedForeachFlow(FlowSpec):
    @step
    def start(self):
        self.regions = ["north", "south"]
        self.next(self.region, foreach="regions")

    @step
    def region(self):
        self.shops = [f"{self.input}-{number}" for number in range(3)]
        self.next(self.shop, foreach="shops")

    @step
    def shop(self):
        self.next(self.revenue, self.visitors)

    @step
    def revenue(self):
        self.value = 1.0
        self.next(self.shop_done)

    @step
    def visitors(self):
        self.value = 2.0
        self.next(self.shop_done)

    @step
    def shop_done(self, inputs):
        self.next(self.region_done)

    @step
    def region_done(self, inputs):
        self.next(self.all_done)

    @step
    def all_done(self, inputs):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    NestedForeachFlow()
