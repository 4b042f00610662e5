"""A generic base of the team's own, with a type as parameter."""
# expect: static

from typing import Generic, TypeVar

from metaflow import FlowSpec, pypi, step

Model = TypeVar("Model")


class Trained(Generic[Model]):
    model: Model

    @pypi(packages={"scikit-learn": "1.5.2"})
    @step
    def train(self) -> None:
        self.next(self.end)


class GenericBaseFlow(FlowSpec, Trained[dict]):
    @step
    def start(self) -> None:
        self.next(self.train)

    @step
    def end(self) -> None:
        print(self.model)


if __name__ == "__main__":
    GenericBaseFlow()
