"""A flow of two steps, the first of which says when its first line ran; what `bench/cold_start` starts."""

from metaflow import FlowSpec, pypi, pypi_base, step


@pypi_base(python="3.14")
class ColdFlow(FlowSpec):
    """Start a step that has the usual packages, and does nothing with them."""

    @pypi(packages={"matplotlib": "", "pandas": "", "pyarrow": "", "scikit-learn": "", "xgboost": ""})
    @step
    def start(self):
        """Say the time, in nanoseconds since the epoch."""
        import time

        print(f"FIRST-LINE {time.time_ns()}", flush=True)
        self.next(self.end)

    @step
    def end(self):
        """Do nothing."""


if __name__ == "__main__":
    ColdFlow()
