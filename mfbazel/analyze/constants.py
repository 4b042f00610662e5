"""Values that can be known without running anything: literals, and constants of modules made of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mfbazel.analyze.errors import AnalyzeError
from mfbazel.analyze.source import Binding, Module, Sources, ValueBinding

_CONSTRUCTS = {
    ast.Lambda: "a function",
    ast.Call: "a call",
    ast.IfExp: "a conditional expression",
    ast.DictComp: "a comprehension",
    ast.Attribute: "an attribute",
    ast.Name: "a name",
}


@dataclass(frozen=True)
class Placed:
    """A value with the place where it was written."""

    value: Any
    file: str
    line: int


@dataclass
class Evaluator:
    """Evaluates expressions of first-party modules."""

    sources: Sources

    def value(self, expression: ast.expr, module: Module, what: str) -> Any:
        """Return the value of ``expression``; ``what`` says in errors what it is for.

        Raises:
            AnalyzeError: it is not a literal or a constant.
        """
        match expression:
            case ast.Constant(value=value):
                return value
            case ast.Dict():
                return {key: placed.value for key, placed in self.items(expression, module, what).items()}
            case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
                return [self.value(element, module, what) for element in elements]
            case ast.JoinedStr(values=values):
                return "".join(str(self.value(part, module, what)) for part in values)
            case ast.FormattedValue(value=inner, conversion=-1, format_spec=None):
                return self.value(inner, module, what)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._add(left, right, expression, module, what)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return -number
            case ast.Subscript():
                return self.value(*self._entry_node(expression, module, what), what)
        if self._is_dict(expression):
            return {key: placed.value for key, placed in self.items(expression, module, what).items()}
        target, found = self._constant(expression, module, what)
        return self.value(found.value, target, what)

    def items(self, expression: ast.expr, module: Module, what: str) -> dict[str, Placed]:
        """Return the entries of the dictionary ``expression``, each with its place; later ones win, as in Python.

        Raises:
            AnalyzeError: it is not a dictionary of literals and constants with text as keys.
        """
        result: dict[str, Placed] = {}
        match expression:
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    result.update(self._entry(key, value, module, what))
            case ast.Call(func=ast.Name(id="dict"), args=arguments, keywords=keywords) if len(arguments) <= 1:
                for argument in arguments:
                    result.update(self.items(argument, module, what))
                for keyword in keywords:
                    name = ast.Constant(keyword.arg) if keyword.arg else None
                    result.update(self._entry(name, keyword.value, module, what))
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                result = {**self.items(left, module, what), **self.items(right, module, what)}
            case ast.Name() | ast.Attribute():
                target, found = self._constant(expression, module, what)
                return self.items(found.value, target, what)
            case ast.Subscript():
                return self.items(*self._entry_node(expression, module, what), what)
            case _:
                raise self._refuse(expression, module, what)
        return result

    def _entry_node(self, expression: ast.Subscript, module: Module, what: str) -> tuple[ast.expr, Module]:
        """Return the expression that stands in a constant dictionary at the key of ``expression``, and its module."""
        table, owner = expression.value, module
        if isinstance(table, ast.Subscript):
            table, owner = self._entry_node(table, module, what)
        while isinstance(table, ast.Name | ast.Attribute):
            owner, found = self._constant(table, owner, what)
            table = found.value
        name = self.value(expression.slice, module, what)
        if isinstance(table, ast.Dict):
            for key, value in reversed(list(zip(table.keys, table.values, strict=True))):
                if key is None:
                    break  # `**`: what it brings is not known here
                if self.value(key, owner, what) == name:
                    return value, owner
        raise self._refuse(expression, module, what)

    def _entry(self, key: ast.expr | None, value: ast.expr, module: Module, what: str) -> dict[str, Placed]:
        if key is None:
            return self.items(value, module, what)
        name = self.value(key, module, what)
        if not isinstance(name, str):
            raise AnalyzeError(f"{module.where(value)}: {what}: the key {name!r} is not text")
        return {name: Placed(self.value(value, module, what), module.shown, value.lineno)}

    def _is_dict(self, expression: ast.expr) -> bool:
        match expression:
            case ast.Call(func=ast.Name(id="dict")) | ast.BinOp(op=ast.BitOr()):
                return True
        return False

    def _add(self, left: ast.expr, right: ast.expr, whole: ast.expr, module: Module, what: str) -> Any:
        first, second = self.value(left, module, what), self.value(right, module, what)
        for kind in (str, list):
            if isinstance(first, kind) and isinstance(second, kind):
                return first + second  # type: ignore[operator]
        raise self._refuse(whole, module, what)

    def _constant(self, expression: ast.expr, module: Module, what: str) -> tuple[Module, ValueBinding]:
        """Return the module and the assignment that a name (or ``module.NAME``) means.

        Raises:
            AnalyzeError: it is no constant.
        """
        target, binding = self._binding(expression, module)
        if not isinstance(binding, ValueBinding):
            raise self._refuse(expression, module, what)
        if not binding.constant:
            raise AnalyzeError(
                f"{module.where(expression)}: {what}: `{ast.unparse(expression)}` is assigned more than once "
                f"or under a "
                f"condition ({target.shown}:{binding.line}). Assign it once, at the top level."
            )
        if any(self._names(binding.value, expression)):
            raise self._refuse(expression, module, what)
        return target, binding

    def _binding(self, expression: ast.expr, module: Module) -> tuple[Module, Binding | None]:
        binding = module.bindings.get(expression.id) if isinstance(expression, ast.Name) else None
        if isinstance(binding, ValueBinding):
            return module, binding
        qualified = module.qualified(expression)
        return (self.sources.definition(qualified) if qualified else None) or (module, None)

    def _names(self, value: ast.expr, expression: ast.expr) -> Iterator[bool]:
        """Yield true for each mention of the name ``expression`` in ``value``: a constant that is made of itself."""
        if isinstance(expression, ast.Name):
            for node in ast.walk(value):
                if isinstance(node, ast.Name) and node.id == expression.id:
                    yield True

    def _refuse(self, expression: ast.expr, module: Module, what: str) -> AnalyzeError:
        qualified = module.qualified(expression.func) if isinstance(expression, ast.Call) else None
        if qualified in ("metaflow.config_expr", "metaflow.Config"):
            kind = f"`{qualified.rpartition('.')[2]}`"
        else:
            kind = next((name for node, name in _CONSTRUCTS.items() if isinstance(expression, node)), "an expression")
        text = ast.unparse(expression)
        shown = text if len(text) <= 60 else f"{text[:57]}..."
        return AnalyzeError(
            f"{module.where(expression)}: {what} is {kind}, `{shown}`, whose value cannot be known without "
            f"running the flow. "
            "Write a literal, or the name of a constant that is assigned once at the top level of a module."
        )
