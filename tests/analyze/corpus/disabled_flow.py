"""``disabled`` on the flow, on a step, and a step that switches its environment on again."""
# expect: static

from metaflow import FlowSpec, pypi, pypi_base, step


@pypi_base(packages={"pandas": "2.2.3"}, disabled=True)
class DisabledFlow(FlowSpec):
    @step
    def start(self):
        self.next(self.train)

    @pypi(packages={"scikit-learn": "1.5.2"}, disabled=False)
    @step
    def train(self):
        self.next(self.score)

    @pypi(packages={"xgboost": "2.1.1"}, disabled="true")
    @step
    def score(self):
        self.next(self.report)

    @pypi(packages={"matplotlib": "3.9.2"}, disabled=None)
    @step
    def report(self):
        self.next(self.end)

    @pypi(disabled="False")
    @step
    def end(self):
        pass


if __name__ == "__main__":
    DisabledFlow()
