"""Metaflow's names come from a module of the team, which imports them from Metaflow."""
# expect: static
# roots: shared

from team import tools
from team.tools import Flow, needs, step


class ReexportedNamesFlow(Flow):
    @needs(packages={"pandas": "2.2.3"})
    @step
    def start(self):
        self.next(self.end)

    @tools.kubernetes(cpu=2)
    @tools.needs_numbers
    @tools.step
    def end(self):
        pass


if __name__ == "__main__":
    ReexportedNamesFlow()
