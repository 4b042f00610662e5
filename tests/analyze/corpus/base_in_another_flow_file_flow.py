"""The base is a flow that can be run by itself, in the file beside this one."""
# expect: static

from inheritance_flow import InheritanceFlow
from metaflow import conda, step


class BaseInAnotherFlowFileFlow(InheritanceFlow):
    @conda(packages={"scikit-learn": "1.5.2"})
    @step
    def work(self):
        self.next(self.check)

    @step
    def check(self):
        self.next(self.end)


if __name__ == "__main__":
    BaseInAnotherFlowFileFlow()
