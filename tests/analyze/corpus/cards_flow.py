"""Several cards on one step."""
# expect: static

from metaflow import FlowSpec, card, current, pypi, step
from metaflow.cards import Markdown


class CardsFlow(FlowSpec):
    @card(type="default", id="numbers")
    @card(type="blank", id="words", options={"title": "Words"})
    @pypi(packages={"matplotlib": "3.9.2"})
    @step
    def start(self):
        current.card["words"].append(Markdown("# Hello"))
        self.next(self.end)

    @card
    @step
    def end(self):
        pass


if __name__ == "__main__":
    CardsFlow()
