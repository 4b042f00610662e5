"""A step of a base is replaced with all its decorators, and one that becomes an ordinary attribute is gone."""
# expect: static

from metaflow import FlowSpec, pypi, resources, step


class Base(FlowSpec):
    @pypi(packages={"pandas": "2.2.3"})
    @step
    def start(self):
        self.next(self.train)

    @pypi(packages={"scikit-learn": "1.5.2"})
    @resources(cpu=4)
    @step
    def train(self):
        self.next(self.audit)

    @step
    def audit(self):
        self.next(self.end)

    @step
    def end(self):
        pass


class OverridingFlow(Base):
    audit = None

    @pypi(packages={"xgboost": "2.1.1"})
    @step
    def train(self):
        self.next(self.end)


if __name__ == "__main__":
    OverridingFlow()
