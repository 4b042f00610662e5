"""A plain decorator below @step wraps the function, not the step."""
# expect: static

import functools

from metaflow import FlowSpec, pypi, step


def logged(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        print("enter", function.__name__)
        return function(*arguments)

    return wrapper


class WrappedFunctionFlow(FlowSpec):
    @pypi(packages={"pandas": "2.2.3"})
    @step
    @logged
    def start(self):
        self.next(self.end)

    @step
    @logged
    def end(self):
        pass


if __name__ == "__main__":
    WrappedFunctionFlow()
