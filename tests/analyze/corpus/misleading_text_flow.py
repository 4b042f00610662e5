"""Text that looks like code is not code:

@pypi(packages={"django": "5.0"})
@step
def ghost(self): ...
"""
# expect: static

from metaflow import FlowSpec, pypi, step

EXAMPLE = """
class OtherFlow(FlowSpec):
    @pypi(packages={"flask": "3.0"})
    @step
    def start(self):
        self.next(self.end)
"""


class MisleadingTextFlow(FlowSpec):
    """The flow.

    @pypi(packages={"celery": "5.4"})
    """

    # @pypi(packages={"numpy": "1.0"})
    @pypi(
        packages={
            "pandas": "2.2.3",  # "numpy": "1.26",
            # "scipy": "1.14",
        },
        # python="3.8",
    )
    # between decorator and step
    @step  # the step
    def start(self):
        """Start. self.next(self.ghost)"""
        # self.next(self.ghost)
        self.text = "self.next(self.ghost)"
        self.next(self.end)  # self.next(self.ghost)

    @step
    def end(self):
        """End."""


if __name__ == "__main__":
    MisleadingTextFlow()
