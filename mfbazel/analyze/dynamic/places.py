"""Where in the source a decorator and its packages stand."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mfbazel.analyze.constants import Evaluator, Placed
from mfbazel.analyze.errors import AnalyzeError
from mfbazel.analyze.model import Place
from mfbazel.analyze.names import Names, Scope
from mfbazel.analyze.source import FunctionNode, Module, Sources, ValueBinding

_DEPTH = 8
_CONFIGS = ("metaflow.Config", "metaflow.config_expr")


@dataclass(frozen=True)
class _Entry:
    """An entry of a dictionary, or a keyword argument; ``version`` is ``None`` where it is not known."""

    key: str
    version: Any
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
    _found: dict[tuple[str, int], list[tuple[ast.expr, Scope]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._evaluator = Evaluator(Names(self.sources))

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
        for expression, scope in self._at(module, place.line):
            for entry in self._entries(expression, scope, 0):
                if entry.key in versions and entry.version in (None, versions[entry.key]):
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

    def _at(self, module: Module, line: int) -> list[tuple[ast.expr, Scope]]:
        """Return the decorators that start at ``line``, else the outermost call, and the scope of their names."""
        key = (module.shown, line)
        if key not in self._found:
            found: list[tuple[ast.expr, Scope]] = []
            calls: list[tuple[ast.expr, Scope]] = []
            owners: dict[int, ast.ClassDef] = {}
            for node in ast.walk(module.tree):
                if isinstance(node, ast.ClassDef):
                    owners.update({id(statement): node for statement in node.body})
                for item in getattr(node, "decorator_list", ()):
                    if item.lineno == line:
                        found.append((item, Scope(module, owners.get(id(node)))))
                if isinstance(node, ast.Call) and node.lineno == line:
                    calls.append((node, Scope(module)))
            self._found[key] = found or calls[:1]
        return self._found[key]

    def _entries(self, expression: ast.AST, scope: Scope, depth: int) -> Iterator[_Entry]:
        """Yield the entries of the dictionaries in ``expression``; later ones win, as in Python."""
        if depth > _DEPTH:
            return
        if isinstance(expression, ast.expr) and not isinstance(expression, ast.Call):
            try:
                known = self._evaluator.value(expression, scope, "an entry")
            except AnalyzeError:
                pass  # of what only running can tell, the parts are looked at
            else:
                yield from _known(known)
                return
        match expression:
            case ast.Call(func=function, args=arguments, keywords=keywords):
                for part in (function, *arguments):
                    yield from self._entries(part, scope, depth + 1)
                # `libraries` lies below `packages`, wherever it is written
                for keyword in sorted(keywords, key=lambda item: item.arg == "packages"):
                    if keyword.arg is not None:
                        yield self._entry(keyword.arg, keyword.value, scope)
                    yield from self._entries(keyword.value, scope, depth + 1)
            case ast.Dict(keys=keys, values=values):
                for name, value in zip(keys, values, strict=True):
                    text = self._plain(name, scope) if name is not None else None
                    if isinstance(text, str):
                        yield self._entry(text, value, scope)
                    yield from self._entries(value, scope, depth + 1)
            case ast.Name() | ast.Attribute():
                yield from self._bound(expression, scope, depth)
            case ast.Lambda():
                return
            case _:
                for child in ast.iter_child_nodes(expression):
                    yield from self._entries(child, scope, depth + 1)

    def _entry(self, key: str, value: ast.expr, scope: Scope) -> _Entry:
        return _Entry(key, self._plain(value, scope), Place(scope.module.shown, value.lineno))

    def _plain(self, expression: ast.expr, scope: Scope) -> Any:
        """Return the value of ``expression``, ``None`` where only running can tell."""
        try:
            return self._evaluator.value(expression, scope, "an entry").plain()
        except AnalyzeError:
            return None

    def _bound(self, expression: ast.expr, scope: Scope, depth: int) -> Iterator[_Entry]:
        """Yield the entries of what a name stands for."""
        try:
            found = self._evaluator.names.definition(expression, scope)
            if found is None or not isinstance(found.binding, ValueBinding):
                return
            value = found.binding.value
            if not hasattr(value, "lineno"):
                return  # what a loop or `with` binds
            if isinstance(value, ast.Call) and self._evaluator.names.qualified(value.func, found.scope) in _CONFIGS:
                return  # the default need not be what holds
        except AnalyzeError:
            return
        yield from self._entries(value, found.scope, depth + 1)


def _known(placed: Placed) -> Iterator[_Entry]:
    if isinstance(placed.value, dict):
        for key, item in placed.value.items():
            if isinstance(item.value, dict):
                yield from _known(item)
            elif isinstance(key, str):
                yield _Entry(key, item.value, Place(item.file, item.line))


def _first_line(node: FunctionNode) -> int:
    """Return the line at which Python says that the code of ``node`` starts."""
    return min([item.lineno for item in node.decorator_list], default=node.lineno)
