"""The graph of a flow: transitions, Metaflow's step types, and the topological order."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mfbazel.analyze.errors import AnalyzeError
from mfbazel.analyze.source import FunctionNode, Module


@dataclass(frozen=True)
class Node:
    """A step in the graph before it is ordered. ``start`` and ``end`` are the flags of ``@step``."""

    name: str
    function: FunctionNode
    module: Module
    start: bool
    end: bool


@dataclass(frozen=True)
class Placed:
    """A step in its place: Metaflow's type and the steps that follow."""

    name: str
    type: str
    next: tuple[str, ...]


def order(nodes: Mapping[str, Node], flow: str) -> list[Placed]:
    """Return the steps in topological order, branches in the order in which they are named.

    Raises:
        AnalyzeError: no start or end, a transition that cannot be read, an unknown next step, or an unreachable one.
    """
    start, end = _ends(nodes, flow)
    types: dict[str, str] = {}
    following: dict[str, tuple[str, ...]] = {}
    for name, node in nodes.items():
        if name == end:
            types[name], following[name] = "end", ()
            continue
        types[name], following[name] = _transition(node)
        for successor in following[name]:
            _check_known(node, successor, nodes)
    if types[start] == "linear":
        types[start] = "start"
    ordered = topological(start, following)
    unreachable = [name for name in nodes if name not in ordered]
    if unreachable:
        node = nodes[unreachable[0]]
        raise AnalyzeError(
            f"{node.module.where(node.function)}: step '{node.name}' is not reachable from '{start}': name it "
            f"in a `self.next`, "
            "or remove it"
        )
    return [Placed(name, types[name], following[name]) for name in ordered]


def _ends(nodes: Mapping[str, Node], flow: str) -> tuple[str, str]:
    if len(nodes) == 1:
        only = next(iter(nodes))
        return only, only
    return _end(nodes, flow, "start"), _end(nodes, flow, "end")


def _end(nodes: Mapping[str, Node], flow: str, flag: str) -> str:
    marked = [node for node in nodes.values() if getattr(node, flag)]
    if len(marked) > 1:
        second = marked[1]
        raise AnalyzeError(
            f"{second.module.where(second.function)}: steps '{marked[0].name}' and '{second.name}' both say "
            f"@step({flag}=True): "
            "one may"
        )
    if marked:
        return marked[0].name
    if flag not in nodes:
        raise AnalyzeError(f"flow '{flow}' has no step '{flag}': name one so, or mark one with @step({flag}=True)")
    return flag


def _check_known(node: Node, successor: str, nodes: Mapping[str, Node]) -> None:
    if successor in nodes:
        return
    close = difflib.get_close_matches(successor, nodes, 1)
    hint = f"did you mean '{close[0]}'?" if close else f"the steps are {', '.join(nodes)}"
    raise AnalyzeError(
        f"{node.module.where(node.function.body[-1])}: step '{node.name}' goes on to '{successor}', which is "
        f"not a step: {hint}"
    )


def _transition(node: Node) -> tuple[str, tuple[str, ...]]:
    """Return type and successors from the last statement, which is the one that Metaflow looks at."""
    last = node.function.body[-1]
    call = last.value if isinstance(last, ast.Expr) else None
    if not isinstance(call, ast.Call) or ast.unparse(call.func) != "self.next":
        raise AnalyzeError(
            f"{node.module.where(last)}: step '{node.name}' does not end with `self.next(…)`: it must be the "
            f"last statement"
        )
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if set(keywords) == {"condition"}:
        return "split-switch", _switch(node, call)
    targets = tuple(_target(node, argument) for argument in call.args)
    if set(keywords) in ({"foreach"}, {"num_parallel"}) and len(targets) == 1:
        return "foreach", targets
    if keywords or not targets:
        raise _unreadable(node, call)
    if len(targets) > 1:
        return "split", targets
    return ("join" if len(node.function.args.args) > 1 else "linear"), targets


def _switch(node: Node, call: ast.Call) -> tuple[str, ...]:
    table = call.args[0] if len(call.args) == 1 else None
    if not isinstance(table, ast.Dict) or not table.values or None in table.keys:
        raise _unreadable(node, call)
    return tuple(dict.fromkeys(_target(node, value) for value in table.values))


def _target(node: Node, expression: ast.expr) -> str:
    match expression:
        case ast.Attribute(value=ast.Name(id="self"), attr=name):
            return name
    raise _unreadable(node, expression)


def _unreadable(node: Node, expression: ast.expr) -> AnalyzeError:
    return AnalyzeError(
        f"{node.module.where(expression)}: step '{node.name}': the transition `{ast.unparse(expression)}` "
        f"cannot be read. "
        'Write `self.next(self.a)`, `self.next(self.a, self.b)`, `self.next(self.a, foreach="x")`, '
        '`self.next(self.a, num_parallel=n)` or `self.next({"x": self.a, "y": self.b}, condition="z")`.'
    )


def topological(start: str, following: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the steps in topological order, branches in the order in which they are named.

    It is the reversed depth-first post-order; edges back to a step on the way (loops of a switch) do not count.
    """
    finished: list[str] = []
    seen = {start}
    stack = [(start, iter(reversed(following[start])))]
    while stack:
        name, successors = stack[-1]
        successor = next((item for item in successors if item not in seen), None)
        if successor is None:
            finished.append(name)
            stack.pop()
        else:
            seen.add(successor)
            stack.append((successor, iter(reversed(following[successor]))))
    return finished[::-1]
