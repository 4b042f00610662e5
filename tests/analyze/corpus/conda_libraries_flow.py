"""``libraries`` is the old name of ``packages``: both are merged, and ``packages`` wins, on step and flow."""
# expect: static

from metaflow import FlowSpec, conda, conda_base, step


@conda_base(libraries={"pandas": "2.1.0", "numpy": "1.24.0"}, packages={"numpy": "1.26.4"}, python="3.11")
class CondaLibrariesFlow(FlowSpec):
    @conda(libraries={"scikit-learn": "1.4.0", "scipy": "1.13.0"}, packages={"scikit-learn": "1.5.2"})
    @step
    def start(self):
        self.next(self.old)

    @conda(libraries={"pandas": "1.5.3"})
    @step
    def old(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    CondaLibrariesFlow()
