"""Which of Metaflow's commands runs in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from metaflow._vendor import click


@dataclass(frozen=True)
class Command:
    """A command of Metaflow's command line.

    Attributes:
        names: the command and its subcommands, such as ``("argo-workflows", "create")``; empty where none is known.
        skips_decorators: whether Metaflow left out the steps' decorators (``spin --skip-decorators``).
    """

    names: tuple[str, ...] = ()
    skips_decorators: bool = False

    @property
    def only_packs(self) -> bool:
        """Whether it makes the code package and starts nothing (``package list``)."""
        return self.names[:1] == ("package",)

    @property
    def starts_tasks(self) -> bool:
        """Whether it starts the flow's tasks from this process (``run``, ``resume``)."""
        return self.names[:1] in (("run",), ("resume",))


def running() -> Command:
    """Return the command that runs, as the command line's parser sees it."""
    names: list[str] = []
    context: Any = click.get_current_context(silent=True)
    state = context.obj if context is not None else None
    while context is not None and context.parent is not None:
        names.insert(0, str(context.info_name))
        context = context.parent
    return Command(tuple(names), bool(getattr(state, "skip_decorators", False)))
