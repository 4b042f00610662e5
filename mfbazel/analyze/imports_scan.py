"""What a piece of code imports and which names it reads: one pass over its tree, nothing resolved yet."""

from __future__ import annotations

import ast
import importlib.util
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mfbazel.analyze.source import (
    Binding,
    FunctionNode,
    Module,
    ValueBinding,
    absolute_module,
    import_bindings,
)

SUPER = "super()"
"""The root of a reference through ``super()``."""

_NARROW = frozenset({"ImportError", "ModuleNotFoundError"})
_BROAD = frozenset({"Exception", "BaseException"})
_DYNAMIC = frozenset({"importlib.import_module", "importlib.__import__"})
_COMPARISONS = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


@dataclass(frozen=True)
class Import:
    """One imported name.

    Attributes:
        module: the absolute dotted name after ``import`` or ``from``; empty for ``from . import …`` outside a package.
        member: a name after ``from … import``, or ``None``.
        relative: whether it begins with a dot.
        optional: whether its failure is caught.
    """

    module: str
    member: str | None
    line: int
    relative: bool
    optional: bool


class Reference(NamedTuple):
    """A name that is read, with the attributes behind it. ``use``: ``read``, ``call`` or ``decorate``."""

    root: str
    attributes: tuple[str, ...]
    use: str


@dataclass
class Scan:
    """What one pass found. ``local``: what imports inside a function bind there."""

    imports: list[Import] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    local: dict[str, Binding] = field(default_factory=dict)


@dataclass(frozen=True)
class Conditions:
    """What is known of conditions: the target Python (``X.Y``) and whether the file is the one that is run."""

    python: tuple[int, int]
    main: bool

    def value(self, test: ast.expr) -> bool | None:
        """Return what ``test`` is, or ``None`` when that cannot be known."""
        match test:
            case ast.Constant(value=bool() | int() as constant):
                return bool(constant)
            case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
                return False
            case ast.UnaryOp(op=ast.Not(), operand=ast.Name() | ast.Attribute() | ast.Compare() as operand):
                value = self.value(operand)
                return None if value is None else not value
            case ast.BoolOp(op=ast.And(), values=values):
                known = [self.value(item) for item in values if not isinstance(item, ast.BoolOp)]
                return False if False in known else None
            case ast.Compare(left=left, ops=[operation], comparators=[right]):
                return self._compare(left, operation, right)
        return None

    def _compare(self, left: ast.expr, operation: ast.cmpop, right: ast.expr) -> bool | None:
        match left, operation, right:
            case ast.Name(id="__name__"), ast.Eq(), ast.Constant(value="__main__"):
                return self.main
            case ast.Attribute(value=ast.Name(id="sys"), attr="version_info"), _, ast.Tuple(elts=elements):
                numbers = [item.value for item in elements if isinstance(item, ast.Constant)]
                compare = _COMPARISONS.get(type(operation))
                if compare and 1 <= len(numbers) == len(elements) <= 2 and all(isinstance(x, int) for x in numbers):
                    # A longer tuple is greater: 3.12 stands for (3, 12, …).
                    return bool(compare((*self.python, 0), tuple(numbers)))
        return None


class _Scope:
    """The names that a function binds; those of the functions around it count as well."""

    def __init__(self, parent: _Scope | None, function: FunctionNode | ast.Lambda | None) -> None:
        self.parent = parent
        self.names: set[str] = set()
        self.globals: set[str] = set()
        if function is not None:
            arguments = function.args
            found = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
            self.names.update(item.arg for item in found if item)

    def hides(self, name: str) -> bool:
        """Say whether ``name`` is bound here, so that it does not mean the module's."""
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.globals:
                return False
            if name in scope.names:
                return True
            scope = scope.parent
        return False


class _Item(NamedTuple):
    """A node still to be visited. ``scope`` is ``None`` at the top level of modules and classes."""

    node: ast.AST
    scope: _Scope | None
    optional: bool
    use: str = "read"


def scan_function(function: FunctionNode, module: Module, conditions: Conditions, *, nested: bool = True) -> Scan:
    """Return what calling ``function`` runs.

    The bodies of functions in it are counted only if ``nested``: a decorator's are not run when it is applied.
    """
    scanner = _Scanner(module, conditions, nested=nested)
    scope = _Scope(None, function)
    scanner.push(function.body, scope)
    scanner.push(_defaults(function), None)
    scanner.push(function.decorator_list, None, use="decorate")
    return scanner.run()


def scan_nodes(nodes: Iterable[ast.AST], module: Module, conditions: Conditions, *, nested: bool) -> Scan:
    """Return what executing ``nodes`` of the top level of ``module`` runs; with ``nested``, bodies of functions too."""
    scanner = _Scanner(module, conditions, nested=nested)
    scanner.push(nodes, None)
    return scanner.run()


class _Scanner:
    """One pass; a list of its own instead of recursion, since trees may be deep."""

    def __init__(self, module: Module, conditions: Conditions, *, nested: bool) -> None:
        self._module = module
        self._conditions = conditions
        self._nested = nested
        self._stack: list[_Item] = []
        self._found = Scan()
        self._read: list[tuple[Reference, _Scope | None]] = []
        self._calls: list[_Item] = []

    def push(
        self, nodes: Iterable[ast.AST], scope: _Scope | None, *, optional: bool = False, use: str = "read"
    ) -> None:
        """Plan to visit ``nodes``."""
        self._stack.extend([_Item(node, scope, optional, use) for node in nodes])

    def run(self) -> Scan:
        """Visit everything that is planned; return what was found."""
        while self._stack:
            self._visit(self._stack.pop())
        local = self._found.local
        self._found.references = [
            reference
            for reference, scope in self._read
            if reference.root in ("self", "cls", SUPER)
            or reference.root in local
            or scope is None
            or not scope.hides(reference.root)
        ]
        for item in self._calls:
            self._dynamic(item)
        return self._found

    def _visit(self, item: _Item) -> None:
        node, scope, optional, _ = item
        visit = _VISITS.get(type(node))
        if visit:
            visit(self, node, item)
            return
        if scope:
            bound = getattr(node, "name", None) or getattr(node, "rest", None)
            if isinstance(bound, str):  # `except … as name`, and the names of `match` patterns
                scope.names.add(bound)
        self._stack.extend([_Item(child, scope, optional) for child in _children(node)])

    def _try(self, node: ast.Try | ast.TryStar, item: _Item) -> None:
        caught = item.optional or _is_caught(node)
        self.push([*node.body, *node.handlers, *node.orelse], item.scope, optional=caught)
        self.push(node.finalbody, item.scope, optional=item.optional)

    def _with(self, node: ast.With | ast.AsyncWith, item: _Item) -> None:
        self.push(node.items, item.scope, optional=item.optional)
        self.push(node.body, item.scope, optional=item.optional or any(map(_suppresses, node.items)))

    def _annotated(self, node: ast.AnnAssign, item: _Item) -> None:
        self.push([node.target, *([node.value] if node.value else [])], item.scope, optional=item.optional)

    def _global(self, node: ast.Global, item: _Item) -> None:
        if item.scope:
            item.scope.globals.update(node.names)

    def _name(self, node: ast.Name | ast.Attribute, item: _Item) -> None:
        base: ast.expr = node
        attributes: list[str] = []
        while isinstance(base, ast.Attribute):
            attributes.append(base.attr)
            base = base.value
        if isinstance(base, ast.Name):
            if isinstance(base.ctx, ast.Load):
                self._read.append((Reference(base.id, tuple(reversed(attributes)), item.use), item.scope))
            elif item.scope:
                item.scope.names.add(base.id)
        elif isinstance(base, ast.Call) and isinstance(base.func, ast.Name) and base.func.id == "super":
            self._read.append((Reference(SUPER, tuple(reversed(attributes)), item.use), item.scope))
        else:
            self.push([base], item.scope, optional=item.optional)

    def _call(self, node: ast.Call, item: _Item) -> None:
        named = isinstance(node.func, ast.Name)  # of any name: `from importlib import import_module as load`
        if named or (isinstance(node.func, ast.Attribute) and node.func.attr in ("import_module", "__import__")):
            self._calls.append(item)
        use = item.use if item.use == "decorate" else "call"
        self.push([node.func], item.scope, optional=item.optional, use=use)
        self.push([*node.args, *(keyword.value for keyword in node.keywords)], item.scope, optional=item.optional)

    def _import(self, node: ast.Import | ast.ImportFrom, item: _Item) -> None:
        if isinstance(node, ast.Import):
            names: list[tuple[str, str | None]] = [(alias.name, None) for alias in node.names]
        else:
            source = absolute_module(node, self._module.package)
            names = [(source, None if alias.name == "*" else alias.name) for alias in node.names]
        relative = isinstance(node, ast.ImportFrom) and node.level > 0
        self._found.imports += [Import(name, member, node.lineno, relative, item.optional) for name, member in names]
        if item.scope:
            self._found.local.update(import_bindings(node, self._module.package))

    def _function(self, node: FunctionNode | ast.Lambda, item: _Item) -> None:
        self.push(_defaults(node), item.scope, optional=item.optional)
        if not isinstance(node, ast.Lambda):
            self.push(node.decorator_list, item.scope, optional=item.optional, use="decorate")
            if item.scope:
                item.scope.names.add(node.name)
        if self._nested:
            body = [node.body] if isinstance(node, ast.Lambda) else node.body
            self.push(body, _Scope(item.scope, node))

    def _class(self, node: ast.ClassDef, item: _Item) -> None:
        if item.scope:
            item.scope.names.add(node.name)
        self.push(node.decorator_list, item.scope, optional=item.optional, use="decorate")
        bases = [*node.bases, *(keyword.value for keyword in node.keywords)]
        self.push([*bases, *node.body], _Scope(item.scope, None) if item.scope else None, optional=item.optional)

    def _if(self, node: ast.If, item: _Item) -> None:
        value = self._conditions.value(node.test)
        self.push([node.test], item.scope, optional=item.optional)
        if value is not False:
            self.push(node.body, item.scope, optional=item.optional)
        if value is not True:
            self.push(node.orelse, item.scope, optional=item.optional)

    def _dynamic(self, item: _Item) -> None:
        """Note ``importlib.import_module`` and ``__import__`` with a constant."""
        call = item.node
        assert isinstance(call, ast.Call)
        if isinstance(call.func, ast.Name) and call.func.id == "__import__":
            if "__import__" in self._module.bindings:
                return
        elif self._module.qualified(call.func, self._found.local) not in _DYNAMIC:
            return
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        name = self._text(call.args[0] if call.args else given.get("name"))
        package = self._text(call.args[1] if len(call.args) == 2 else given.get("package")) or ""
        if not name:
            return
        try:
            dotted = importlib.util.resolve_name(name, package)
        except (ImportError, ValueError):
            return
        if all(part.isidentifier() for part in dotted.split(".")):
            self._found.imports.append(Import(dotted, None, call.lineno, name.startswith("."), item.optional))

    def _text(self, expression: ast.expr | None) -> str | None:
        match expression:
            case ast.Constant(value=str() as text):
                return text
            case ast.Name(id="__package__"):
                return self._module.package
            case ast.Name(id="__name__"):
                return self._module.dotted
            case ast.Name(id=name):
                binding = self._module.bindings.get(name)
                if isinstance(binding, ValueBinding) and binding.constant and isinstance(binding.value, ast.Constant):
                    return binding.value.value if isinstance(binding.value.value, str) else None
        return None


_VISITS: dict[type[ast.AST], Callable[[_Scanner, Any, _Item], None]] = {
    ast.Name: _Scanner._name,
    ast.Attribute: _Scanner._name,
    ast.Call: _Scanner._call,
    ast.Import: _Scanner._import,
    ast.ImportFrom: _Scanner._import,
    ast.FunctionDef: _Scanner._function,
    ast.AsyncFunctionDef: _Scanner._function,
    ast.Lambda: _Scanner._function,
    ast.ClassDef: _Scanner._class,
    ast.If: _Scanner._if,
    ast.Try: _Scanner._try,
    ast.TryStar: _Scanner._try,
    ast.With: _Scanner._with,
    ast.AsyncWith: _Scanner._with,
    ast.AnnAssign: _Scanner._annotated,
    ast.Global: _Scanner._global,
}


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the children of ``node`` that can hold a name; quicker than :func:`ast.iter_child_nodes`."""
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            for child in value:
                if isinstance(child, ast.AST) and child._fields and not isinstance(child, ast.Constant):
                    yield child
        elif isinstance(value, ast.AST) and value._fields and not isinstance(value, ast.Constant):
            yield value


def _defaults(function: FunctionNode | ast.Lambda) -> list[ast.expr]:
    return [*function.args.defaults, *(item for item in function.args.kw_defaults if item)]


def _is_caught(statement: ast.Try | ast.TryStar) -> bool:
    """Say whether ``statement`` is there for an import that may fail.

    It is when it catches ImportError, or everything and holds nothing but imports; but not when the handler raises.
    """
    only_imports = all(isinstance(item, ast.Import | ast.ImportFrom | ast.Assign) for item in statement.body)
    for handler in statement.handlers:
        names = set(_caught(handler.type))
        if names & _NARROW or ((not names or names & _BROAD) and only_imports):
            return not isinstance(handler.body[-1], ast.Raise)
        if not names or names & _BROAD:
            return False
    return False


def _caught(expression: ast.expr | None) -> Iterator[str]:
    """Yield the last parts of the names of the exceptions in ``expression``."""
    parts: Sequence[ast.expr | None] = expression.elts if isinstance(expression, ast.Tuple) else [expression]
    for part in parts:
        if isinstance(part, ast.Name):
            yield part.id
        elif isinstance(part, ast.Attribute):
            yield part.attr
        elif part is not None:
            yield ""


def _suppresses(item: ast.withitem) -> bool:
    """Say whether ``item`` is ``contextlib.suppress(ImportError)``."""
    match item.context_expr:
        case ast.Call(func=ast.Name(id="suppress") | ast.Attribute(attr="suppress"), args=arguments):
            return any(name in _NARROW for argument in arguments for name in _caught(argument))
    return False
