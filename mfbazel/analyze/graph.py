"""The graph of a flow: transitions, Metaflow's step types, what Metaflow refuses, and the topological order."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mfbazel.analyze.balance import check_balance
from mfbazel.analyze.errors import AnalyzeError
from mfbazel.analyze.source import FunctionNode, Module, code_of

_RESERVED = frozenset(("name", "next", "input", "index", "cmd"))
_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")


@dataclass(frozen=True)
class Node:
    """A step in the graph before it is ordered.

    ``start`` and ``end`` are the flags of ``@step``; ``parallel``: it has @parallel or a decorator derived from it.
    """

    name: str
    function: FunctionNode
    module: Module
    start: bool
    end: bool
    parallel: bool = False

    @property
    def where(self) -> str:
        """``file:line`` of its ``def``."""
        return self.module.where(self.function)

    @property
    def arguments(self) -> int:
        """The number of arguments, as Metaflow counts them."""
        return len(self.function.args.args)


@dataclass(frozen=True)
class Placed:
    """A step in its place: Metaflow's type and the steps that follow."""

    name: str
    type: str
    next: tuple[str, ...]


def order(nodes: Mapping[str, Node], flow: str) -> list[Placed]:
    """Return the steps in topological order, branches in the order in which they are named.

    Raises:
        AnalyzeError: Metaflow's own checks refuse the graph: no start or end, a transition that cannot be read, an
            unknown next step, one that is not reachable, a circle, a split without its join.
    """
    for node in nodes.values():
        _check_name(node)
    start, end = _ends(nodes, flow)
    types: dict[str, str] = {}
    following: dict[str, tuple[str, ...]] = {}
    for name, node in nodes.items():
        types[name], following[name] = ("end", ()) if name == end else _transition(node)
        for successor in following[name]:
            _check_known(node, successor, nodes)
    _check_end(nodes[end])
    if types[start] == "linear":
        types[start] = "start"
    ordered = topological(start, following)
    _check_reachable(nodes, start, ordered)
    _check_arguments(nodes, types)
    check_balance(start, types, following, {name: node.where for name, node in nodes.items()})
    _check_parallel(nodes, types, following)
    return [Placed(name, types[name], following[name]) for name in ordered]


def _check_name(node: Node) -> None:
    if node.name in _RESERVED:
        raise AnalyzeError(f"{node.where}: '{node.name}' is a reserved word in Metaflow: give the step another name")
    if not _NAME.fullmatch(node.name):
        raise AnalyzeError(
            f"{node.where}: the name of step '{node.name}' may only hold lower-case letters, digits and underscores, "
            "and not start with an underscore: rename it"
        )


def _ends(nodes: Mapping[str, Node], flow: str) -> tuple[str, str]:
    if len(nodes) == 1:
        only = next(iter(nodes))
        return only, only
    return _end(nodes, flow, "start"), _end(nodes, flow, "end")


def _end(nodes: Mapping[str, Node], flow: str, flag: str) -> str:
    marked = [node for node in nodes.values() if getattr(node, flag)]
    if len(marked) > 1:
        raise AnalyzeError(
            f"{marked[1].where}: steps '{marked[0].name}' and '{marked[1].name}' both say @step({flag}=True): one may"
        )
    if marked and marked[0].name != flag and flag in nodes:
        raise AnalyzeError(
            f"{marked[0].where}: step '{marked[0].name}' says @step({flag}=True), but there is also a step '{flag}', "
            "and Metaflow refuses it: rename that one or remove the mark"
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


def _check_end(node: Node) -> None:
    last = node.function.body[-1]
    if _next_call(last):
        raise AnalyzeError(f"{node.module.where(last)}: step '{node.name}' is the last one: remove its `self.next(…)`")
    if node.arguments > 1:
        raise AnalyzeError(
            f"{node.where}: step '{node.name}' is the last one and must not be a join: put a join before it"
        )


def _check_reachable(nodes: Mapping[str, Node], start: str, ordered: Sequence[str]) -> None:
    reached = set(ordered)
    for name, node in nodes.items():
        if name not in reached:
            raise AnalyzeError(
                f"{node.where}: step '{name}' is not reachable from '{start}': name it in a `self.next`, or remove it"
            )


def _check_arguments(nodes: Mapping[str, Node], types: Mapping[str, str]) -> None:
    for name, node in nodes.items():
        if node.arguments == 0:
            raise AnalyzeError(f"{node.where}: step '{name}' has no argument: write `def {name}(self)`")
        if node.arguments > 2:
            raise AnalyzeError(
                f"{node.where}: step '{name}' has {node.arguments} arguments: write `self`, for a join `self, inputs`"
            )
        if node.arguments == 2 and types[name] != "join":
            raise AnalyzeError(
                f"{node.where}: step '{name}' is a join (it takes a second argument) and branches, too: add a step"
            )


def _check_parallel(
    nodes: Mapping[str, Node], types: Mapping[str, str], following: Mapping[str, tuple[str, ...]]
) -> None:
    entered = {after: _is_num_parallel(nodes[name]) for name, names in following.items() for after in names}
    for name, node in nodes.items():
        after = following[name]
        if types[name] == "foreach" and types[after[0]] == "join":
            raise AnalyzeError(
                f"{node.where}: the join '{after[0]}' follows the foreach of step '{name}' at once: put a step between"
            )
        if _is_num_parallel(node) and not nodes[after[0]].parallel:
            raise AnalyzeError(
                f"{nodes[after[0]].where}: step '{after[0]}' runs in parallel (`num_parallel` in step '{name}'), but "
                "has no @parallel: add it"
            )
        if node.parallel and not entered.get(name, False):
            raise AnalyzeError(
                f"{node.where}: step '{name}' has @parallel, but nothing leads to it with `num_parallel`: write "
                f"`self.next(self.{name}, num_parallel=n)` before it"
            )
        if node.parallel and not (after and types[after[0]] == "join"):
            raise AnalyzeError(f"{node.where}: step '{name}' has @parallel: the step after it must be a join")


def _is_num_parallel(node: Node) -> bool:
    call = _next_call(node.function.body[-1])
    return call is not None and [keyword.arg for keyword in call.keywords] == ["num_parallel"]


def _next_call(statement: ast.stmt) -> ast.Call | None:
    """Return the call when ``statement`` is ``self.next(…)``."""
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr="next")) as call):
            return call
    return None


def _transition(node: Node) -> tuple[str, tuple[str, ...]]:
    """Return type and successors from the last statement, which is the one that Metaflow looks at."""
    last = node.function.body[-1]
    call = _next_call(last)
    if call is None:
        raise AnalyzeError(
            f"{node.module.where(last)}: step '{node.name}' does not end with `self.next(…)`: it must be the "
            f"last statement"
        )
    keywords = [keyword.arg for keyword in call.keywords]
    if len(call.args) == 1 and isinstance(call.args[0], ast.Dict) and "condition" in keywords:
        return "split-switch", _switch(node, call, call.args[0])
    targets = tuple(_target(node, argument, call) for argument in call.args)
    if keywords in (["foreach"], ["num_parallel"]) and len(targets) == 1:
        return "foreach", targets
    if keywords or not targets:
        raise _unreadable(node, call)
    if len(targets) > 1:
        return "split", targets
    return ("join" if node.arguments > 1 else "linear"), targets


def _switch(node: Node, call: ast.Call, table: ast.Dict) -> tuple[str, ...]:
    condition = next(keyword.value for keyword in call.keywords if keyword.arg == "condition")
    if not isinstance(condition, ast.Constant) or not isinstance(condition.value, str) or not condition.value:
        raise _unreadable(node, call)
    cases: dict[object, str] = {}
    for key, value in zip(table.keys, table.values, strict=True):
        cases[_case(node, key, call)] = _switched(node, value, call)
    if len(cases) < 2:
        raise AnalyzeError(
            f"{node.module.where(call)}: step '{node.name}' switches between fewer than two cases: add one, or write "
            "`self.next(self.a)`"
        )
    return tuple(cases.values())


def _case(node: Node, key: ast.expr | None, call: ast.Call) -> object:
    """Return what tells the cases of a switch apart: a constant, or ``self.config.key``."""
    match key:
        case ast.Constant(value=value) if value is not None:
            return value
        case ast.Attribute(value=ast.Attribute(value=ast.Name(id="self"), attr=config), attr=entry):
            return f"config:{config}.{entry}"
    raise _unreadable(node, call)


def _switched(node: Node, value: ast.expr, call: ast.Call) -> str:
    match value:
        case ast.Attribute(value=ast.Name(id="self"), attr=name):
            return name
    raise _unreadable(node, call)


def _target(node: Node, expression: ast.expr, call: ast.Call) -> str:
    if isinstance(expression, ast.Attribute):
        return expression.attr
    raise _unreadable(node, call if call.keywords else expression)


def _unreadable(node: Node, expression: ast.expr) -> AnalyzeError:
    return AnalyzeError(
        f"{node.module.where(expression)}: step '{node.name}': the transition `{code_of(expression)}` "
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
