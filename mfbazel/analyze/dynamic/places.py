"""Where in the source a decorator and its packages stand."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mfbazel.analyze.errors import AnalyzeError
from mfbazel.analyze.model import Place
from mfbazel.analyze.source import FunctionNode, Module, Sources, ValueBinding

_DEPTH = 8
_CONFIGS = ("metaflow.Config", "metaflow.config_expr")


@dataclass(frozen=True)
class _Entry:
    """An entry of a dictionary, or a keyword argument."""

    key: str
    value: ast.expr
    place: Place


@dataclass
class Places:
    """Finds places.

    Attributes:
        module: the flow's file.
        sources: its first-party modules.
        roots: the absolute directories of ``sources``, in the same order.
    """

    module: Module
    sources: Sources
    roots: Sequence[Path]
    _calls: dict[tuple[str, int], list[ast.expr]] = field(default_factory=dict)

    def shown(self, file: str | None) -> str:
        """Return how the results show the first-party ``file``, an absolute path."""
        if file is None or Path(file) == self.module.path.absolute():
            return self.module.shown
        for root in self.roots:
            if Path(file).is_relative_to(root):
                return Path(file).relative_to(root).as_posix()
        return Path(file).name

    def step(self, code: Mapping[str, Any]) -> Place:
        """Return where the ``def`` of the step stands whose code starts at ``code``."""
        module, line = self._load(code), int(code["line"] or 1)
        if module is not None:
            for node in ast.walk(module.tree):
                if isinstance(node, FunctionNode) and line in (node.lineno, _first_line(node)):
                    return Place(module.shown, node.lineno)
        return Place(self.shown(code["file"]), line)

    def decorator(self, origin: Mapping[str, Any]) -> Place:
        """Return where a decorator stands."""
        module = self._load(origin)
        return Place(module.shown if module else self.shown(origin["file"]), int(origin["line"]))

    def packages(
        self, origin: Mapping[str, Any] | None, versions: Mapping[str, Any], otherwise: Place
    ) -> dict[str, Place]:
        """Return where the entries of a decorator at ``origin`` stand, whose ``versions`` are known by key.

        An entry that the source does not name there, or with another version (a Config's, a mutator's), stands where
        the decorator does.
        """
        if origin is None:
            return dict.fromkeys(versions, otherwise)
        place = self.decorator(origin)
        module = self._load(origin)
        if origin["mutator"] or module is None:
            return dict.fromkeys(versions, place)
        found: dict[str, Place] = {}
        for expression in self._at(module, place.line):
            for entry in self._entries(expression, module, 0):
                literal = entry.value.value if isinstance(entry.value, ast.Constant) else versions.get(entry.key)
                if entry.key in versions and literal == versions[entry.key]:
                    found[entry.key] = entry.place
        return {key: found.get(key, place) for key in versions}

    def _load(self, code: Mapping[str, Any]) -> Module | None:
        """Return the module that ``code`` (with ``module`` and ``file``) lies in."""
        if code["file"] is None or Path(code["file"]) == self.module.path.absolute():
            return self.module
        try:
            module = self.sources.load(str(code["module"]))
        except AnalyzeError:
            return None
        return module if module and module.path.absolute() == Path(code["file"]) else None

    def _at(self, module: Module, line: int) -> list[ast.expr]:
        """Return the outermost expressions that start at ``line`` and are decorators or calls."""
        key = (module.shown, line)
        if key not in self._calls:
            decorators: list[ast.expr] = [
                item
                for node in ast.walk(module.tree)
                for item in getattr(node, "decorator_list", ())
                if item.lineno == line
            ]
            calls: list[ast.expr] = [
                node for node in ast.walk(module.tree) if isinstance(node, ast.Call) and node.lineno == line
            ]
            self._calls[key] = decorators or calls[:1]
        return self._calls[key]

    def _entries(self, expression: ast.AST, module: Module, depth: int) -> Iterator[_Entry]:
        """Yield the entries of the dictionaries in ``expression``; later ones win, as in Python."""
        if depth > _DEPTH:
            return
        match expression:
            case ast.Call(func=function, args=arguments, keywords=keywords):
                yield from self._entries(function, module, depth + 1)
                for argument in arguments:
                    yield from self._entries(argument, module, depth + 1)
                # `libraries` lies below `packages`, wherever it is written
                for keyword in sorted(keywords, key=lambda item: item.arg == "packages"):
                    if keyword.arg is not None:
                        yield _Entry(keyword.arg, keyword.value, Place(module.shown, keyword.value.lineno))
                    yield from self._entries(keyword.value, module, depth + 1)
            case ast.Dict(keys=keys, values=values):
                for name, value in zip(keys, values, strict=True):
                    text = self._text(name, module) if name is not None else None
                    if text is not None:
                        yield _Entry(text, value, Place(module.shown, value.lineno))
                    yield from self._entries(value, module, depth + 1)
            case ast.Name() | ast.Attribute():
                yield from self._bound(expression, module, depth)
            case ast.Lambda():
                return
            case _:
                for child in ast.iter_child_nodes(expression):
                    yield from self._entries(child, module, depth + 1)

    def _bound(self, expression: ast.expr, module: Module, depth: int) -> Iterator[_Entry]:
        owner, value = self._value(expression, module)
        if owner is None or value is None:
            return
        if isinstance(value, ast.Call) and owner.qualified(value.func) in _CONFIGS:
            return  # the default need not be what holds
        yield from self._entries(value, owner, depth + 1)

    def _text(self, key: ast.expr, module: Module) -> str | None:
        """Return the text of a key: a literal, or a constant's."""
        for _ in range(_DEPTH):
            if isinstance(key, ast.Constant):
                return key.value if isinstance(key.value, str) else None
            owner, value = self._value(key, module)
            if owner is None or not isinstance(value, ast.expr):
                return None
            key, module = value, owner
        return None

    def _value(self, expression: ast.expr, module: Module) -> tuple[Module | None, ast.AST | None]:
        """Return the expression that a name stands for, and its module."""
        binding = module.bindings.get(expression.id) if isinstance(expression, ast.Name) else None
        owner: Module | None = module
        if not isinstance(binding, ValueBinding):
            qualified = module.qualified(expression)
            try:
                found = self.sources.definition(qualified) if qualified else None
            except AnalyzeError:
                found = None
            owner, binding = found if found else (None, None)
        if isinstance(binding, ValueBinding):
            return owner, binding.value
        return None, None


def _first_line(node: FunctionNode) -> int:
    """Return the line at which Python says that the code of ``node`` starts."""
    return min([item.lineno for item in node.decorator_list], default=node.lineno)
