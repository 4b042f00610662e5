"""@resources, @batch and @kubernetes on one step: the largest of what they ask for counts."""
# expect: static

from metaflow import FlowSpec, batch, kubernetes, resources, step

GIGABYTE = 1024


class ResourcesFlow(FlowSpec):
    @resources(cpu=2, memory=4096)
    @step
    def start(self):
        self.next(self.text)

    @resources(cpu="1.5", memory="2048", gpu="1")
    @step
    def text(self):
        self.next(self.larger)

    @resources(cpu=8, memory=1000, gpu=1)
    @kubernetes(cpu=4, memory=8000, gpu=2)
    @step
    def larger(self):
        self.next(self.none)

    @resources(gpu=0)
    @batch(gpu=0, cpu=0.5)
    @step
    def none(self):
        self.next(self.computed)

    @resources(memory=16 * GIGABYTE, cpu=2 + 2)
    @step
    def computed(self):
        self.next(self.end)

    @resources
    @batch
    @step
    def end(self):
        pass


if __name__ == "__main__":
    ResourcesFlow()
