"""@conda and @pypi in one flow are fine as long as no step has packages of both."""
# expect: static

from metaflow import FlowSpec, conda, pypi, step


class BothPackageManagersFlow(FlowSpec):
    @conda(packages={"pandas": "2.2.3"}, python="3.11")
    @step
    def start(self):
        self.next(self.train)

    @pypi(packages={"scikit-learn": "1.5.2"})
    @step
    def train(self):
        self.next(self.chosen)

    @pypi(packages={"requests": "2.32.3"})
    @conda(python="3.10")
    @step
    def chosen(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    BothPackageManagersFlow()
