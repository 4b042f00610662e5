"""Every way to write a version for @conda that has a counterpart among Python's specifiers."""
# expect: static

from metaflow import FlowSpec, conda, step


class CondaVersionsFlow(FlowSpec):
    @conda(
        packages={
            "pandas": "2.2.3",
            "numpy": ">=1.26,<3",
            "scipy": "=1.14",
            "scikit-learn": "==1.5.2",
            "pyarrow": "!=17.0.0",
            "tqdm": "4.66.*",
        },
        python="3.12",
    )
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    CondaVersionsFlow()
