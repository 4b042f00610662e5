"""Constants from a module that may be missing, with others in its place."""
# expect: dynamic (assigned more than once or under a condition)
# roots: shared

from metaflow import FlowSpec, pypi, step

try:
    from team.packages import MACHINE_LEARNING as PACKAGES
except ImportError:
    PACKAGES = {"scikit-learn": "1.0"}


class FallbackImportFlow(FlowSpec):
    @pypi(packages=PACKAGES)
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    FallbackImportFlow()
