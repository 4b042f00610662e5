"""GPUs asked for by each decorator that can."""
# expect: static

from metaflow import FlowSpec, batch, kubernetes, pypi_base, resources, step


@pypi_base(packages={"torch": "2.4.1"})
class GpuFlow(FlowSpec):
    @resources(gpu=1)
    @step
    def start(self):
        self.next(self.on_batch)

    @batch(gpu=2, memory=32000)
    @step
    def on_batch(self):
        self.next(self.on_kubernetes)

    @kubernetes(gpu=4, gpu_vendor="nvidia")
    @step
    def on_kubernetes(self):
        self.next(self.end)

    @kubernetes(gpu=None)
    @step
    def end(self):
        pass


if __name__ == "__main__":
    GpuFlow()
