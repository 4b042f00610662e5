"""Source files as trees, what their top level binds to names, and where first-party modules lie."""

from __future__ import annotations

import ast
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

from mfbazel.analyze.errors import AnalyzeError
from mfbazel.analyze.files import read_text
from mfbazel.analyze.syntax import parse_text

_FUNCTIONS = frozenset((ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
_MAX_PARTS = 100
"""Of a dotted name; a chain of more attributes means no module or what is in one."""

_LONGEST_NAME = 4096
"""Characters of a dotted name of a module; no path may be longer."""
_DEEP = 150
"""Levels of a tree that recursive readers may not get through."""

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class ModuleBinding:
    """``import a.b as name`` (``dotted`` is ``a.b``), or ``import a.b`` (``name`` and ``dotted`` are ``a``)."""

    dotted: str


@dataclass(frozen=True)
class ImportBinding:
    """``from module import name as …``."""

    module: str
    name: str


@dataclass(frozen=True)
class ValueBinding:
    """``name = value``; ``constant`` is false when it is assigned more than once or under a condition."""

    value: ast.expr
    line: int
    constant: bool = True


Binding = ModuleBinding | ImportBinding | ValueBinding | FunctionNode | ast.ClassDef


_Nodes = dict[type[ast.AST], list[ast.AST]]
Node = TypeVar("Node", bound=ast.AST)


def _sorted_out(tree: ast.Module) -> tuple[_Nodes, _Nodes]:
    """Return the nodes of ``tree`` by class, those outside of functions and those inside."""
    outer: list[ast.AST] = [tree]
    inner: list[ast.AST] = []
    found: tuple[_Nodes, _Nodes] = (defaultdict(list), defaultdict(list))
    for nodes, kinds in zip((outer, inner), found, strict=True):
        for node in nodes:  # the list grows meanwhile
            kind = node.__class__
            kinds[kind].append(node)
            into = inner if kind in _FUNCTIONS else nodes
            for name in _INNER_FIELDS[kind]:
                value = getattr(node, name)
                if value.__class__ is list:
                    for child in value:
                        if child.__class__ not in _LEAVES:
                            into.append(child)  # quicker than a comprehension for each field
                elif value.__class__ not in _LEAVES:
                    into.append(value)
    return found


_LEAVES = frozenset((ast.Name, ast.Constant, ast.alias, type(None), str, int))
"""What fields hold besides nodes that hold others."""


class _InnerFields(dict[type[ast.AST], tuple[str, ...]]):
    """The fields of a class of nodes that may hold nodes of interest, those of operators and contexts left out."""

    _OTHERS = frozenset(
        {
            *("arg", "asname", "attr", "conversion", "ctx", "id", "is_async"),
            *("kind", "level", "module", "op", "ops", "simple", "type_comment"),
        }
    )

    def __missing__(self, kind: type[ast.AST]) -> tuple[str, ...]:
        fields = tuple(name for name in kind._fields if name not in self._OTHERS)
        self[kind] = fields
        return fields


_INNER_FIELDS = _InnerFields()


@dataclass
class Module:
    """A parsed file.

    Attributes:
        shown: its path in results and errors.
        dotted: its name; ``package`` that of its package.
        text: what was parsed.
        bindings: what the names of its top level mean, by their last binding.
        stars: the modules of ``from … import *``, in the order of the file; ``before_stars`` has the names that were
            bound before each of them, which it may bind again.
        unsure: names that imports, functions or classes bind more than once, to different things: which binding counts
            depends on conditions, and on where the name is used.
        conditional: the identities of statements under a condition.
    """

    path: Path
    shown: str
    dotted: str
    package: str
    tree: ast.Module
    text: str
    bindings: dict[str, Binding] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    before_stars: list[frozenset[str]] = field(default_factory=list)
    unsure: set[str] = field(default_factory=set)
    conditional: set[int] = field(default_factory=set)
    _nodes: tuple[_Nodes, _Nodes] | None = None

    def nodes(self, kind: type[Node], *, inside: bool | None = None) -> Sequence[Node]:
        """Return the nodes of the class ``kind`` (not of subclasses), from the outside in; not for names and constants.

        ``inside``: only those in functions and lambdas (their decorators, defaults and annotations included), or only
        those outside of all; both where it is ``None``. The tree is walked once, for all kinds.
        """
        if self._nodes is None:
            self._nodes = _sorted_out(self.tree)
        outer, inner = (cast(list[Node], found.get(kind, [])) for found in self._nodes)
        if inside is None:
            return [*outer, *inner]
        return inner if inside else outer

    def where(self, node: ast.AST) -> str:
        """Return ``file:line`` of ``node``."""
        return f"{self.shown}:{getattr(node, 'lineno', 1)}"

    def qualified(self, expression: ast.expr, local: dict[str, Binding] | None = None) -> str | None:
        """Return the dotted name that ``expression`` (names and attributes) means through imports, or ``None``."""
        parts: list[str] = []
        while isinstance(expression, ast.Attribute) and len(parts) < _MAX_PARTS:
            parts.append(expression.attr)
            expression = expression.value
        if not isinstance(expression, ast.Name):
            return None
        binding = (local or {}).get(expression.id) or self.bindings.get(expression.id)
        if isinstance(binding, ModuleBinding):
            head = binding.dotted
        elif isinstance(binding, ImportBinding):
            head = f"{binding.module}.{binding.name}"
        elif binding is None and self.stars:
            head = f"{self.stars[-1]}.{expression.id}"
        else:
            head = f"{self.dotted}.{expression.id}"
        return ".".join([head, *reversed(parts)])


def parse(path: Path, shown: str, dotted: str = "__main__", package: str = "") -> Module:
    """Read and parse ``path``.

    Raises:
        AnalyzeError: it cannot be read, is no text or does not parse (file, line, column and what to do).
    """
    text = read_text(path, shown)
    module = Module(path, shown, dotted, package, parse_text(text, shown), text)
    _bind(module)
    if "global" in text or ":=" in text:
        _bind_in_expressions(module)
    return module


def code_of(node: ast.AST, limit: int = 120) -> str:
    """Return ``node`` as code for messages, on one line and at most ``limit`` characters long; never raises.

    What is nested too deeply to be written, or holds a number with too many digits, is shown as its kind.
    """
    try:
        text = " ".join(ast.unparse(node).split())
    except (RecursionError, ValueError):
        text = f"<{type(node).__name__}>"
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _bind(module: Module) -> None:
    """Note what the top level of ``module`` binds, in the order of the source: the last binding of a name counts."""
    under_condition: set[str] = set()
    for statement, conditional in _executed(module.tree.body):
        if conditional:
            module.conditional.add(id(statement))
        match statement:
            case ast.Import() | ast.ImportFrom():
                bound = import_bindings(statement, module.package)
                for name, binding in bound.items():
                    _bind_name(module, name, binding)
                if conditional:
                    under_condition.update(bound)
                if isinstance(statement, ast.ImportFrom) and any(alias.name == "*" for alias in statement.names):
                    module.before_stars.append(frozenset(module.bindings))
                    module.stars.append(absolute_module(statement, module.package))
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                _bind_name(module, statement.name, statement)
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
                _bind_value(module, statement, conditional=conditional)
            case _:
                _bind_otherwise(module, statement)
    if module.stars:  # which may bind what the condition leaves out
        module.unsure |= under_condition


def _bind_name(module: Module, name: str, binding: Binding) -> None:
    """Note what an import, a function or a class binds ``name`` to."""
    if module.bindings.get(name, binding) != binding:
        module.unsure.add(name)
    module.bindings[name] = binding


def statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of ``body`` and those in them at any depth, functions and classes included, in order."""
    stack = [*reversed(body)]
    while stack:
        statement = stack.pop()
        yield statement
        stack.extend(_inner(statement))


def _executed(statements: Sequence[ast.stmt]) -> Iterator[tuple[ast.stmt, bool]]:
    """Yield ``statements`` and those nested in them, functions and classes apart; and whether they are nested."""
    stack = [(statement, False) for statement in reversed(statements)]
    while stack:
        statement, conditional = stack.pop()
        yield statement, conditional
        if not isinstance(statement, FunctionNode | ast.ClassDef):
            stack.extend([(nested, True) for nested in _inner(statement)])


class _Blocks(dict[type[ast.AST], tuple[str, ...]]):
    """The fields of a class of statements that hold statements, or parts with statements of their own."""

    def __missing__(self, kind: type[ast.AST]) -> tuple[str, ...]:
        names = ("body", "handlers", "orelse", "finalbody", "cases")
        fields = tuple(name for name in names if name in kind._fields)
        self[kind] = fields
        return fields


_BLOCKS = _Blocks()


def _inner(statement: ast.stmt) -> list[ast.stmt]:
    """Return the statements directly in ``statement``, the last one first."""
    found: list[ast.stmt] = []
    for name in _BLOCKS[statement.__class__]:
        for part in getattr(statement, name):
            if isinstance(part, ast.stmt):
                found.append(part)
            else:  # a handler or a case
                found.extend(part.body)
    found.reverse()
    return found


def _bind_value(module: Module, statement: ast.Assign | ast.AnnAssign | ast.AugAssign, *, conditional: bool) -> None:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    if statement.value is None:
        return
    for target in targets:
        if isinstance(target, ast.Name):
            once = not conditional and target.id not in module.bindings and not isinstance(statement, ast.AugAssign)
            module.bindings[target.id] = ValueBinding(statement.value, statement.lineno, once)
        else:
            _change(module, target, statement)


def _bind_otherwise(module: Module, statement: ast.stmt) -> None:
    """Note what a statement that is no assignment binds: targets of loops, of ``with``, ``except`` and ``match``."""
    match statement:
        case ast.For(target=target) | ast.AsyncFor(target=target):
            _change(module, target, statement)
        case ast.With(items=items) | ast.AsyncWith(items=items):
            for item in items:
                if item.optional_vars:
                    _change(module, item.optional_vars, statement)
        case ast.Delete(targets=targets):
            for target in targets:
                _change(module, target, statement)
        case ast.Try(handlers=handlers) | ast.TryStar(handlers=handlers):
            for handler in handlers:
                _rebind(module, handler.name, statement)
        case ast.Match():
            for node in ast.walk(statement):
                _rebind(
                    module, getattr(node, "rest" if isinstance(node, ast.MatchMapping) else "name", None), statement
                )


def _change(module: Module, target: ast.expr, statement: ast.stmt) -> None:
    """Note that ``statement`` binds the names in ``target``; what it changes in place is found elsewhere."""
    stack = [target]
    while stack:
        match stack.pop():
            case ast.Name(id=name):
                _rebind(module, name, statement)
            case ast.Starred(value=inner):
                stack.append(inner)
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                stack.extend(elements)


def _rebind(module: Module, name: str | None, statement: ast.AST) -> None:
    """Note that ``statement`` may give ``name`` a value that is not known."""
    previous = module.bindings.get(name) if name else None
    if name and (previous is None or isinstance(previous, ValueBinding)):
        value = previous.value if isinstance(previous, ValueBinding) else ast.Constant(None)
        module.bindings[name] = ValueBinding(value, getattr(statement, "lineno", 1), constant=False)


def _bind_in_expressions(module: Module) -> None:
    """Note what ``global`` lets functions change, and what ``:=`` binds in the middle of expressions."""
    for declaration in module.nodes(ast.Global):
        for name in declaration.names:
            _rebind(module, name, declaration)
    for expression in module.nodes(ast.NamedExpr, inside=False):
        _rebind(module, expression.target.id, expression)


def absolute_module(statement: ast.ImportFrom, package: str) -> str:
    """Return the absolute name of the module that ``statement`` imports from, in a module of ``package``."""
    if not statement.level:
        return statement.module or ""
    parts = package.split(".") if package else []
    kept = parts[: len(parts) - (statement.level - 1)] if statement.level > 1 else parts
    return ".".join([*kept, *([statement.module] if statement.module else [])])


def import_bindings(statement: ast.Import | ast.ImportFrom, package: str) -> dict[str, Binding]:
    """Return what ``statement`` binds."""
    if isinstance(statement, ast.ImportFrom):
        module = absolute_module(statement, package)
        return {
            alias.asname or alias.name: ImportBinding(module, alias.name)
            for alias in statement.names
            if alias.name != "*"
        }
    return {
        alias.asname or alias.name.partition(".")[0]: ModuleBinding(
            alias.name if alias.asname else alias.name.partition(".")[0]
        )
        for alias in statement.names
    }


def _deepest(tree: ast.Module) -> tuple[int, ast.AST]:
    """Return the number of levels of ``tree``, and the statement or expression at the lowest of them."""
    depth = 0
    level: list[ast.AST] = [*tree.body]
    lowest = level
    while level:
        depth += 1
        placed = [node for node in level if hasattr(node, "lineno")]
        lowest = placed or lowest
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return depth, lowest[0] if lowest else tree


def _is_name(dotted: str) -> bool:
    return all(part.isidentifier() for part in dotted.split("."))


class Sources:
    """Finds and parses first-party modules: those beside the flow file and below the given import roots."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = tuple(roots)
        self._modules: dict[str, Module | None] = {}
        self._first_party: dict[str, bool] = {}

    def add(self, module: Module) -> None:
        """Make ``module`` known, so that it is not read again when another one imports it."""
        self._modules[module.dotted] = module

    def load(self, dotted: str) -> Module | None:
        """Return the first-party module ``dotted``, or ``None`` when there is none (or it is a namespace package).

        Raises:
            AnalyzeError: it does not parse.
        """
        if len(dotted) > _LONGEST_NAME:
            return None
        if dotted not in self._modules:
            self._modules[dotted] = None
            self._modules[dotted] = self._find(dotted)
        return self._modules[dotted]

    def too_deep(self, module: Module) -> AnalyzeError:
        """Return the error for a recursion that found no end while ``module`` and what it imports were read."""
        modules = {id(found): found for found in (module, *self._modules.values()) if found}
        depth, node, owner = max(
            ((*_deepest(found.tree), found) for found in modules.values()), key=lambda item: item[0]
        )
        if depth > _DEEP:
            return AnalyzeError(
                f"{owner.where(node)}: the code is nested too deeply to be read, {depth} levels: split it into parts"
            )
        return AnalyzeError(f"{module.shown}: constants or classes are defined by themselves: break the circle")

    def is_first_party(self, dotted: str) -> bool:
        """Say whether ``dotted`` is a first-party module or package, one without ``__init__.py`` included."""
        if len(dotted) > _LONGEST_NAME:
            return False
        if dotted not in self._first_party:
            self._first_party[dotted] = self.load(dotted) is not None or self._is_namespace(dotted)
        return self._first_party[dotted]

    def _is_namespace(self, dotted: str) -> bool:
        if not _is_name(dotted):
            return False
        directories = (os.path.join(root, *dotted.split(".")) for root in self.roots)  # noqa: PTH118
        return any(
            next(Path(directory).glob(pattern), None) is not None
            for directory in directories
            if os.path.isdir(directory)  # noqa: PTH112 - says no where Path.is_dir raises: name too long, no right
            for pattern in ("*.py", "*/*.py")
        )

    def _find(self, dotted: str) -> Module | None:
        if not _is_name(dotted):
            return None
        parts = dotted.split(".")
        for root in self.roots:
            stem = os.path.join(root, *parts)  # noqa: PTH118
            for file, package in ((f"{stem}.py", ".".join(parts[:-1])), (f"{stem}/__init__.py", dotted)):
                if os.path.isfile(file):  # noqa: PTH113 - says no where Path.is_file raises
                    return parse(Path(file), Path(file).relative_to(root).as_posix(), dotted, package)
        return None

    def definition(self, dotted: str, depth: int = 0) -> tuple[Module, Binding] | None:
        """Return where the first-party name ``dotted`` (``module.name``) is bound, through re-exports."""
        head, _, name = dotted.rpartition(".")
        module = self.load(head) if head else None
        if module is None or depth > 20:
            return None
        binding = module.bindings.get(name)
        if isinstance(binding, ImportBinding):
            return self.definition(f"{binding.module}.{binding.name}", depth + 1)
        return (module, binding) if binding is not None else None
