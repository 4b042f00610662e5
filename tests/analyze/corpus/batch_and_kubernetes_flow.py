"""@batch and @kubernetes on steps of one flow, with images of their own and without."""
# expect: static

from metaflow import FlowSpec, batch, kubernetes, pypi, step


class BatchAndKubernetesFlow(FlowSpec):
    @kubernetes
    @step
    def start(self):
        self.next(self.train)

    @pypi(packages={"torch": "2.4.1"})
    @batch(image="registry.example.com/ml/train@sha256:" + "0" * 64, queue="gpu")
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
