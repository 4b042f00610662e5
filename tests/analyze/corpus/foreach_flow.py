"""A foreach and its join."""
# expect: static

from metaflow import FlowSpec, pypi, step


class ForeachFlow(FlowSpec):
    @step
    def start(self):
        self.countries = ["de", "fr", "it"]
        self.next(self.score, foreach="countries")

    @pypi(packages={"pandas": "2.2.3"})
    @step
    def score(self):
        self.score_of = len(self.input)
        self.next(self.join)

    @step
    def join(self, inputs):
        self.scores = [each.score_of for each in inputs]
        self.next(self.end)

    @step
    def end(self):
        print(self.scores)


if __name__ == "__main__":
    ForeachFlow()
