"""@batch and @kubernetes on steps of one flow, with images of their own and without."""
# expect: static

from metaflow import FlowSpec, batch, kubernetes, pypi, step

DIGEST = "sha256:5b0bcabd1ed22e9fb1310cf6c2dec7cdef19f0ad69efa1f392e94a4333501270"


class BatchAndKubernetesFlow(FlowSpec):
    @kubernetes
    @step
    def start(self):
        self.next(self.train)

    @pypi(packages={"torch": "2.4.1"})
    @batch(image=f"registry.example.com/ml/train@{DIGEST}", queue="gpu")
    @step
    def train(self):
        self.next(self.score)

    @kubernetes(image="registry.example.com:5000/ml/score:1", secrets=["token"])
    @step
    def score(self):
        self.next(self.end)

    @batch(image=None)
    @step
    def end(self):
        pass


if __name__ == "__main__":
    BatchAndKubernetesFlow()
