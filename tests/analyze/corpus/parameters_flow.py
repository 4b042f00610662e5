"""Parameters, files and functions of the flow are no steps."""
# expect: static

from metaflow import FlowSpec, IncludeFile, JSONType, Parameter, pypi, step


def this_year(_context):
    return "2024"


class ParametersFlow(FlowSpec):
    year = Parameter("year", default=this_year)
    table = IncludeFile("table", default="data/requirements.txt")
    weights = Parameter("weights", type=JSONType, default='{"a": 1}')
    size: int = 3

    @property
    def double(self):
        return 2 * self.size

    @staticmethod
    def clean(text):
        return text.strip()

    @classmethod
    def create(cls):
        return cls(use_cli=False)

    def describe(self):
        return self.clean(f"{self.year} {self.weights}")

    @pypi(packages={"pandas": "2.2.3"})
    @step
    def start(self):
        print(self.describe())
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    ParametersFlow()
