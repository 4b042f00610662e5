"""Values that can be known without running anything: literals, and constants of modules and classes made of them."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mfbazel.analyze.errors import AnalyzeError, NeedsRunningError
from mfbazel.analyze.mutations import only_read, rewritten, touched
from mfbazel.analyze.names import Found, Names, Scope
from mfbazel.analyze.source import Module, ValueBinding, code_of

_KINDS: Mapping[type[ast.expr], str] = {
    ast.Lambda: "a function",
    ast.Call: "a call",
    ast.IfExp: "a conditional expression",
    ast.DictComp: "a comprehension",
    ast.ListComp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.Attribute: "an attribute",
    ast.Name: "a name",
    ast.Subscript: "an entry",
}
_CONFIG = ("metaflow.Config", "metaflow.config_expr")
_LARGEST = 10_000
"""Characters or elements of one value; larger ones are made by running only."""
_MOST_BITS = 1000
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_SURROGATE = re.compile("[\ud800-\udfff]")
_SCALARS = (str, int, float, bool, bytes, type(None))


@dataclass(frozen=True)
class Placed:
    """A value with the place where it was written.

    ``value`` is a scalar, or a dict, list, tuple or set whose values are :class:`Placed` in turn (the members of a set
    and the keys of a dict are plain).
    """

    value: Any
    file: str
    line: int

    def plain(self) -> Any:
        """Return the value without the places inside.

        Raises:
            AnalyzeError: it is larger than any that means something.
            RecursionError: it is nested too deeply.
        """
        return self._plain([0])

    def _plain(self, counted: list[int]) -> Any:
        counted[0] += 1
        if counted[0] > _LARGEST:
            raise AnalyzeError(f"{self.file}:{self.line}: the value has more than {_LARGEST} parts: make it smaller")
        match self.value:
            case dict():
                return {key: item._plain(counted) for key, item in self.value.items()}
            case list() | tuple():
                return type(self.value)(item._plain(counted) for item in self.value)
        return self.value


@dataclass
class Evaluator:
    """Evaluates expressions of first-party code; each constant once."""

    names: Names
    _known: dict[int, Placed] = field(default_factory=dict)
    _open: set[int] = field(default_factory=set)
    _touched: dict[int, Mapping[str, int]] = field(default_factory=dict)

    def value(self, expression: ast.expr, scope: Scope, what: str) -> Placed:
        """Return the value of ``expression``; ``what`` says in errors what it is for.

        Raises:
            NeedsRunningError: it is made of more than literals and constants.
            AnalyzeError: a constant is made of itself.
        """
        return Placed(self._value(expression, scope, what), scope.module.shown, expression.lineno)

    def _value(self, expression: ast.expr, scope: Scope, what: str) -> Any:
        match expression:
            case ast.Constant(value=value) if isinstance(value, _SCALARS):
                return self._scalar(value, expression, scope, what)
            case ast.Dict():
                return self._dict(expression, scope, what)
            case ast.List(elts=elements):
                return self._elements(elements, scope, what)
            case ast.Tuple(elts=elements):
                return tuple(self._elements(elements, scope, what))
            case ast.Set(elts=elements):
                return {self._key(element, scope, what) for element in elements}
            case ast.JoinedStr(values=values):
                return self._limited(
                    "".join(self._formatted(part, scope, what) for part in values), expression, scope, what
                )
            case ast.UnaryOp():
                return self._unary(expression, scope, what)
            case ast.BinOp():
                return self._binary(expression, scope, what)
            case ast.Subscript():
                return self._entry(expression, scope, what)
            case ast.Call(func=ast.Name(id="dict")) if self.names.qualified(expression.func, scope) == "builtins.dict":
                return self._dict_call(expression, scope, what)
            case ast.Name() | ast.Attribute():
                return self._constant(expression, scope, what)
        raise self._unknown(expression, scope, what)

    def _scalar(self, value: Any, expression: ast.expr, scope: Scope, what: str) -> Any:
        if isinstance(value, str) and not value.isascii() and _SURROGATE.search(value):
            raise AnalyzeError(f"{scope.where(expression)}: {what} holds half of a surrogate pair: remove it")
        if isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise AnalyzeError(
                f"{scope.where(expression)}: {what} is a number of more than {_MOST_BITS} bits: correct it"
            )
        return value

    def _elements(self, elements: Sequence[ast.expr], scope: Scope, what: str) -> list[Placed]:
        found: list[Placed] = []
        for element in elements:
            if isinstance(element, ast.Starred):
                inner = self._value(element.value, scope, what)
                if not isinstance(inner, list | tuple):
                    raise self._unknown(element.value, scope, what)
                found.extend(inner)
            else:
                found.append(self.value(element, scope, what))
        self._limited(found, elements[0] if elements else None, scope, what)
        return found

    def _dict(self, expression: ast.Dict, scope: Scope, what: str) -> dict[Any, Placed]:
        found: dict[Any, Placed] = {}
        for key, value in zip(expression.keys, expression.values, strict=True):
            if key is None:
                found.update(self._table(value, scope, what))
                self._limited(found, value, scope, what)
            else:
                found[self._key(key, scope, what)] = self.value(value, scope, what)
        return found

    def _dict_call(self, expression: ast.Call, scope: Scope, what: str) -> dict[Any, Placed]:
        if len(expression.args) > 1:
            raise self._unknown(expression, scope, what)
        found: dict[Any, Placed] = {}
        for argument in expression.args:
            found.update(self._table(argument, scope, what))
        for keyword in expression.keywords:
            if keyword.arg is None:
                found.update(self._table(keyword.value, scope, what))
            else:
                found[keyword.arg] = self.value(keyword.value, scope, what)
        return found

    def _table(self, expression: ast.expr, scope: Scope, what: str) -> dict[Any, Placed]:
        value = self._value(expression, scope, what)
        if not isinstance(value, dict):
            raise self._unknown(expression, scope, what)
        return value

    def _key(self, expression: ast.expr, scope: Scope, what: str) -> Any:
        value = self._value(expression, scope, what)
        if not isinstance(value, _SCALARS):
            raise self._unknown(expression, scope, what)
        return value

    def _formatted(self, part: ast.expr, scope: Scope, what: str) -> str:
        if isinstance(part, ast.FormattedValue):
            if part.conversion not in (-1, ord("s")) or part.format_spec is not None:
                raise self._unknown(part.value, scope, what)
            return str(self._key(part.value, scope, what))
        return str(self._key(part, scope, what))

    def _unary(self, expression: ast.UnaryOp, scope: Scope, what: str) -> Any:
        value = self._value(expression.operand, scope, what)
        match expression.op:
            case ast.Not():
                return not value
            case ast.USub() if isinstance(value, int | float):
                return -value
            case ast.UAdd() if isinstance(value, int | float):
                return +value
        raise self._unknown(expression, scope, what)

    def _binary(self, expression: ast.BinOp, scope: Scope, what: str) -> Any:
        left, right = self._value(expression.left, scope, what), self._value(expression.right, scope, what)
        if isinstance(left, int | float) and isinstance(right, int | float):
            return self._calculated(expression, left, right, scope, what)
        match expression.op, left, right:
            case ast.BitOr(), dict(), dict():
                return self._limited({**left, **right}, expression, scope, what)
            case (ast.Add(), str(), str()) | (ast.Add(), list(), list()) | (ast.Add(), tuple(), tuple()):
                return self._limited(left + right, expression, scope, what)
            case (ast.Mult(), str(), int()) if len(left) * right <= _LARGEST:
                return left * right
        raise self._unknown(expression, scope, what)

    def _calculated(self, expression: ast.BinOp, left: Any, right: Any, scope: Scope, what: str) -> Any:
        calculate = _ARITHMETIC.get(type(expression.op))
        try:
            found = calculate(left, right) if calculate else None
        except (ArithmeticError, ValueError):
            found = None
        if found is None:
            raise self._unknown(expression, scope, what)
        return self._scalar(found, expression, scope, what)

    def _entry(self, expression: ast.Subscript, scope: Scope, what: str) -> Any:
        table = self._value(expression.value, scope, what)
        key = self._key(expression.slice, scope, what)
        if isinstance(table, dict) and key in table:
            return table[key].value
        if isinstance(table, list | tuple) and isinstance(key, int) and -len(table) <= key < len(table):
            return table[key].value
        raise self._unknown(expression, scope, what)

    def _constant(self, expression: ast.expr, scope: Scope, what: str) -> Any:
        found = self.names.definition(expression, scope)
        if found is None or not isinstance(found.binding, ValueBinding):
            raise self._unknown(expression, scope, what)
        binding, home = found.binding, found.scope
        if (line := rewritten(home.module)) is not None:
            raise self._unknown(expression, scope, what, f"in a rewritten module ({home.module.shown}:{line})")
        if not binding.constant:
            place = f"{home.module.shown}:{binding.line}"
            raise self._unknown(expression, scope, what, f"assigned more than once or under a condition ({place})")
        made = binding.value
        if isinstance(made, ast.Call) and self.names.qualified(made.func, home) in _CONFIG:
            raise self._unknown(expression, scope, what)
        known = self._known.get(id(made))
        if known is None:
            known = self._evaluated(found, binding, what)
        if isinstance(known.value, dict | list):
            self._check_untouched(expression, scope, found, what)
        return known.value

    def _evaluated(self, found: Found, binding: ValueBinding, what: str) -> Placed:
        identity = id(binding.value)
        if identity in self._open:
            raise AnalyzeError(
                f"{found.scope.module.shown}:{binding.line}: {what}: the constant `{found.name}` is made of itself: "
                "break the circle"
            )
        self._open.add(identity)
        try:
            self._known[identity] = self.value(binding.value, found.scope, what)
        finally:
            self._open.discard(identity)
        return self._known[identity]

    def _check_untouched(self, expression: ast.expr, scope: Scope, found: Found, what: str) -> None:
        """Refuse a dict or list that something changes after it was assigned."""
        for module, path in ((scope.module, _dotted(expression)), (found.scope.module, found.name)):
            if only_read(module, path.partition(".")[0]):
                continue
            if id(module) not in self._touched:
                self._touched[id(module)] = touched(module)
            line = self._touched[id(module)].get(path)
            if line is not None:
                raise self._unknown(expression, scope, what, f"changed after it was assigned ({module.shown}:{line})")

    def _limited(self, value: Any, expression: ast.expr | None, scope: Scope, what: str) -> Any:
        if len(value) > _LARGEST and expression is not None:
            raise self._unknown(expression, scope, what, f"longer than {_LARGEST}")
        return value

    def _unknown(self, expression: ast.expr, scope: Scope, what: str, why: str = "") -> NeedsRunningError:
        kind = self._kind(expression, scope)
        text = code_of(expression, 60)
        reason = f"{kind}, `{text}`, that is {why}" if why else f"{kind}, `{text}`"
        return NeedsRunningError(
            f"{scope.where(expression)}: {what} is {reason}, whose value cannot be known without running the flow. "
            "Write a literal, or the name of a constant that is assigned once at the top level of a module, "
            "or let the flow be read dynamically.",
            f"{what} in {in_line(expression, scope.module)} is {reason}",
        )

    def _kind(self, expression: ast.expr, scope: Scope) -> str:
        root = expression
        while isinstance(root, ast.Attribute | ast.Subscript | ast.Call):
            if isinstance(root, ast.Call) and self.names.qualified(root.func, scope) in _CONFIG:
                return f"a `{str(self.names.qualified(root.func, scope)).rpartition('.')[2]}`"
            root = root.func if isinstance(root, ast.Call) else root.value
        found = self.names.definition(root, scope)
        value = found.binding.value if found and isinstance(found.binding, ValueBinding) else None
        if found and isinstance(value, ast.Call) and self.names.qualified(value.func, found.scope) == "metaflow.Config":
            return f"the `Config` of line {value.lineno}"
        return _KINDS.get(type(expression), "an expression")


def in_line(node: ast.AST, module: Module) -> str:
    """Say in which line ``node`` stands; with the file unless it is the flow's own."""
    line = f"line {getattr(node, 'lineno', 1)}"
    return line if module.dotted == "__main__" else f"{line} of {module.shown}"


def _dotted(expression: ast.expr) -> str:
    """Return ``a.b.c`` of names and attributes."""
    parts: list[str] = []
    while isinstance(expression, ast.Attribute):
        parts.append(expression.attr)
        expression = expression.value
    return ".".join([expression.id if isinstance(expression, ast.Name) else "", *reversed(parts)])
