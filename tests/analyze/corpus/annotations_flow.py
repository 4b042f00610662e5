"""Annotations and type comments everywhere they may stand."""
# expect: static

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from metaflow import FlowSpec, pypi, step

if TYPE_CHECKING:
    import pandas

PACKAGES: Final[dict[str, str]] = {"pandas": "2.2.3"}
OTHERS = {"numpy": "2.1.0"}  # type: dict[str, str]


class AnnotationsFlow(FlowSpec):
    table: pandas.DataFrame

    @pypi(packages=PACKAGES)
    @step
    def start(self: AnnotationsFlow) -> None:
        number: int = 3
        self.number = number
        self.next(self.left, self.right)

    @pypi(packages=OTHERS)
    @step
    def left(self) -> None:
        self.next(self.join)

    @step
    def right(self):
        # type: () -> None
        self.next(self.join)

    @step
    def join(self, inputs: Any = ()) -> None:
        self.next(self.end)

    @step
    def end(self) -> None:
        pass


if __name__ == "__main__":
    AnnotationsFlow()
