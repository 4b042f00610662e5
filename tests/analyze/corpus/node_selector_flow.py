"""Steps that choose the architecture of their node: as text, as a dictionary, and with other labels."""
# expect: static

from metaflow import FlowSpec, kubernetes, pypi_base, step

ARM = {"kubernetes.io/arch": "arm64"}


@pypi_base(packages={"numpy": "2.1.0"})
class NodeSelectorFlow(FlowSpec):
    @kubernetes(node_selector="kubernetes.io/arch=arm64")
    @step
    def start(self):
        self.next(self.dictionary)

    @kubernetes(node_selector={"kubernetes.io/arch": "amd64", "pool": "large"})
    @step
    def dictionary(self):
        self.next(self.constant)

    @kubernetes(node_selector=ARM)
    @step
    def constant(self):
        self.next(self.other)

    @kubernetes(node_selector="pool=large,kubernetes.io/os=linux")
    @step
    def other(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    NodeSelectorFlow()
