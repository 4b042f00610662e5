"""Random flows that Metaflow accepts: graphs of up to 60 steps, with random decorators written in random ways.

:func:`flows` is a hypothesis strategy for the text of a flow's file. A graph is put together from blocks that have one
way in and one way out, so that it is valid by construction: a step, a split with its join, a foreach with its join, a
gang of parallel steps with its join, and a switch whose branches meet again (or which goes back to itself).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from hypothesis import strategies as st

MAX_STEPS = 60
MAX_PATHS = 300
"""Metaflow walks every path from start to end one by one: more would be slow there."""

Value = TypeVar("Value")

NAMES = ("pandas", "numpy", "scikit-learn", "torch", "Jinja2", "ruamel.yaml", "typing_extensions", "requests[socks]")
CONDA_NAMES = ("pandas", "numpy", "scikit-learn", "scipy", "conda-forge::requests", "tqdm", "pyarrow")
VERSIONS = ("1.2.3", "2.0", ">=1.5", "<3,>=2", "~=1.4", "!=2.1", "1.*", "")
CONDA_VERSIONS = ("1.2.3", "2.0", ">=1.5", ">=2,<3", "!=2.1", "1.*", "=1.4")
PYTHONS = ("3.10", "3.12", "3.13.1")
IMAGES = ("registry.example.com/ml/base:1", "registry.example.com:5000/train", "python:3.12-slim")


@dataclass
class _Step:
    """A step while the graph grows. ``going``: the arguments of ``self.next``, empty at the end."""

    name: str
    going: str = ""
    kind: str = "linear"
    join: bool = False
    parallel: bool = False


@dataclass
class _Graph:
    """Grows a graph from its end to its start. ``left``: how many more steps there may be."""

    random: Random
    left: int
    steps: list[_Step] = field(default_factory=list)
    paths: int = 1

    def add(self, word: str, **attributes: Any) -> _Step:
        """Add a step with a name of its own."""
        step = _Step(f"{word}_{len(self.steps)}", **attributes)
        self.steps.append(step)
        self.left -= 1
        return step

    def chain(self, following: _Step, depth: int) -> _Step:
        """Put one or more blocks before ``following``; return the first step."""
        first = self.block(following, depth)
        for _ in range(self.random.randint(0, 3)):
            if self.left > 4:
                first = self.block(first, depth)
        return first

    def block(self, following: _Step, depth: int) -> _Step:
        """Put one block before ``following``; return its first step."""
        kinds = [self.linear]
        if self.left >= 6 and depth < 4:
            kinds += [self.foreach, self.gang]
            if self.paths * 2 <= MAX_PATHS:
                kinds += [self.split, self.switch]
        return self.random.choice(kinds)(following, depth)

    def linear(self, following: _Step, depth: int) -> _Step:  # noqa: ARG002
        return self.add("step", going=f"self.{following.name}")

    def split(self, following: _Step, depth: int) -> _Step:
        """A step, two or more branches, and a join."""
        join = self.add("join", going=f"self.{following.name}", join=True)
        count = self.random.randint(2, 3)
        self.paths *= count
        heads = [self.chain(join, depth + 1).name for _ in range(count)]
        return self.add("split", going=", ".join(f"self.{name}" for name in heads), kind="split")

    def foreach(self, following: _Step, depth: int) -> _Step:
        """A step, a chain for each item, and a join."""
        join = self.add("join", going=f"self.{following.name}", join=True)
        head = self.chain(join, depth + 1)
        quote = self.random.choice(("'", '"'))
        return self.add("each", going=f"self.{head.name}, foreach={quote}items{quote}", kind="foreach")

    def gang(self, following: _Step, depth: int) -> _Step:  # noqa: ARG002
        """A step, a step that runs on several nodes, and a join."""
        join = self.add("join", going=f"self.{following.name}", join=True)
        work = self.add("gang", going=f"self.{join.name}", parallel=True)
        number = self.random.choice(("4", "self.nodes", "2 * 2"))
        return self.add("wide", going=f"self.{work.name}, num_parallel={number}", kind="foreach")

    def switch(self, following: _Step, depth: int) -> _Step:
        """A step, branches of which one is taken, and a step where they meet, which is no join."""
        meet = self.add("meet", going=f"self.{following.name}")
        count = self.random.randint(2, 3)
        self.paths *= count
        targets = [self.chain(meet, depth + 1).name for _ in range(count - 1)] + [meet.name]
        name = f"switch_{len(self.steps)}"
        if self.random.random() < 0.5:
            targets.append(name)
        if self.random.random() < 0.5:
            targets.append(targets[0])
        cases = ", ".join(f"{key!r}: self.{target}" for key, target in enumerate(targets))
        return self.add("switch", going=f"{{{cases}}}, condition='case'", kind="switch")


def flows(max_steps: int = MAX_STEPS) -> st.SearchStrategy[str]:
    """Return a strategy for the text of a file with one flow of up to ``max_steps`` steps, named ``GeneratedFlow``."""
    found = st.builds(_flow, st.integers(1, max_steps), st.randoms(use_true_random=True))
    return found.filter(lambda text: text.count("    def ") <= max_steps)


def _flow(size: int, random: Random) -> str:
    graph = _Graph(random, size)
    start = end = graph.add("end")
    while graph.left > 4:
        start = graph.block(start, 0)
    while graph.left > 0 or start.kind == "switch":  # Metaflow lets nothing go back to the start, not even itself
        start = graph.linear(start, 0)
    return _File(random, graph.steps, start, end).text()


class _File:
    """Writes a flow's file."""

    def __init__(self, random: Random, steps: Sequence[_Step], start: _Step, end: _Step) -> None:
        self._random = random
        self._steps = list(steps)
        self._start = start
        self._end = end
        self._prefix = random.choice(("", "mf.", "metaflow."))
        self._manager = random.choice(("pypi", "conda", "none"))
        self._constants: list[str] = []

    def text(self) -> str:
        order = self._random.sample(self._steps, len(self._steps))
        cut = self._random.randrange(len(order)) if self._maybe(3) else 0
        bodies = [self._step(step) for step in order]
        head, base = self._flow_decorators(), f"{self._prefix}FlowSpec"
        classes = []
        if cut:
            classes.append(_class("Base", base, bodies[:cut]))
            base = "Base"
        classes.append("".join(f"{line}\n" for line in head) + _class("GeneratedFlow", base, bodies[cut:]))
        start = 'if __name__ == "__main__":\n    GeneratedFlow()\n'
        return "\n\n".join([self._imports(), *self._constants, *classes, start])

    def _imports(self) -> str:
        return {"": "from metaflow import *", "mf.": "import metaflow as mf", "metaflow.": "import metaflow"}[
            self._prefix
        ]

    def _maybe(self, among: int) -> bool:
        return self._random.randrange(among) == 0

    def _pick(self, values: Sequence[Value]) -> Value:
        return self._random.choice(values)

    def _step(self, step: _Step) -> str:
        lines = [f"@{self._prefix}{item}" for item in self._step_decorators(step)]
        lines.append(f"@{self._prefix}step{self._flags(step)}")
        lines.append(f"def {step.name}(self{', inputs' if step.join else ''}):")
        if self._maybe(4):
            lines.append(self._pick(("    '''self.next(self.nowhere)'''", "    # a comment", "    self.x = [1, 2]")))
        lines.append(f"    self.next({step.going})" if step.going else "    pass")
        return "".join(f"    {line}\n" for line in lines)

    def _flags(self, step: _Step) -> str:
        if len(self._steps) == 1:
            return self._pick(("", "(start=True, end=True)"))
        if step is self._start:
            return "(start=True)"
        return "(end=True)" if step is self._end else self._pick(("", "()"))

    def _flow_decorators(self) -> list[str]:
        found = []
        if self._maybe(3):
            found.append("project(name='generated')")
        if self._maybe(4):
            found.append("schedule(daily=True)")
        if self._manager != "none" and self._maybe(2):
            found.append(f"{self._manager}_base({self._attributes()})")
        return [f"@{self._prefix}{item}" for item in found]

    def _step_decorators(self, step: _Step) -> list[str]:
        found = []
        if self._manager != "none" and self._maybe(2):
            found.append(self._manager if self._maybe(6) else f"{self._manager}({self._attributes()})")
        if self._maybe(3):
            found.append(f"resources({self._hardware()})")
        if self._maybe(4):
            found.append(self._remote(self._pick(("batch", "kubernetes"))))
        if self._maybe(5):
            found.append(self._pick(("retry", "retry(times=2)", "retry(times=0)")))
        if self._maybe(8):
            found.append("card(type='blank')")
        if self._maybe(8):
            found.append("environment(vars={'A': 'b'})")
        if self._maybe(8):
            found.append("timeout(minutes=3)")
        if step.kind == "linear" and not step.parallel and self._maybe(8):
            found.append("catch(var='problem')")
        if step.parallel:
            found.append("parallel")
        return self._random.sample(found, len(found))

    def _attributes(self) -> str:
        found = []
        if self._maybe(2):
            found.append(f"packages={self._packages()}")
        if self._manager == "conda" and self._maybe(4):
            found.append(f"libraries={self._packages()}")
        if self._maybe(3):
            found.append(f"python={self._text(self._pick(PYTHONS))}")
        if self._maybe(5):
            found.append(f"disabled={self._pick(('True', 'False', 'None'))}")
        return ", ".join(found)

    def _packages(self) -> str:
        """Return an expression for a dictionary: a literal, a constant, or one with another merged into it."""
        names, versions = (NAMES, VERSIONS) if self._manager == "pypi" else (CONDA_NAMES, CONDA_VERSIONS)
        chosen = self._random.sample(names, self._random.randint(0, 3))
        entries = [f"{self._text(name)}: {self._text(self._pick(versions))}" for name in chosen]
        literal = f"{{{', '.join(entries)}}}"
        match self._random.randrange(6):
            case 0:
                return self._constant(literal)
            case 1:
                return f"{{**{self._constant(literal)}, {self._text(names[0])}: {self._text(versions[0])}}}"
            case 2:
                return f"{self._constant(literal)} | {literal}"
            case 3:
                return f"dict({literal})"
        return literal

    def _hardware(self) -> str:
        found = []
        if self._maybe(2):
            found.append(f"cpu={self._pick(('1', '2', '8', '4.0', repr('2')))}")
        if self._maybe(2):
            found.append(f"memory={self._pick(('1000', '4096', '64000', repr('8192')))}")
        if self._maybe(3):
            found.append(f"gpu={self._pick(('0', '1', '2', repr('1'), 'None'))}")
        return ", ".join(found)

    def _remote(self, name: str) -> str:
        found = [self._hardware()] if self._maybe(2) else []
        if self._maybe(2):
            found.append(f"image={self._text(self._pick(IMAGES))}")
        if name == "kubernetes" and self._maybe(4):
            architecture = self._pick(("arm64", "amd64"))
            label = "kubernetes.io/arch"
            found.append(
                self._pick(
                    (f"node_selector={label + '=' + architecture!r}", f"node_selector={{{label!r}: {architecture!r}}}")
                )
            )
        return f"{name}({', '.join(item for item in found if item)})"

    def _text(self, value: str) -> str:
        """Return an expression for a text: a literal, a constant, an f-string, or a sum."""
        middle = math.ceil(len(value) / 2)
        match self._random.randrange(10):
            case 0:
                return self._constant(repr(value))
            case 1:
                return f"f'{value[:middle]}{{{self._constant(repr(value[middle:]))}}}'"
            case 2:
                return f"{value[:middle]!r} + {value[middle:]!r}"
            case 3:
                return f"{value[:middle]!r} {value[middle:]!r}"
        return repr(value)

    def _constant(self, expression: str) -> str:
        name = f"CONSTANT_{len(self._constants)}"
        self._constants.append(f"{name} = {expression}")
        return name


def _class(name: str, base: str, bodies: Sequence[str]) -> str:
    return f"class {name}({base}):\n" + "\n".join(bodies)
