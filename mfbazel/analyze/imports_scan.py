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
_KNOWN = {"sys.platform": "linux", "os.name": "posix"}
"""What holds in every image."""
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


@dataclass
class Conditions:
    """What is known of conditions: the target Python, that images are Linux, and whether the file is the one run.

    ``decisive`` becomes true when something has depended on the Python.
    """

    python: tuple[int, int]
    main: bool
    decisive: bool = False

    def value(self, test: ast.expr) -> bool | None:
        """Return what ``test`` is, or ``None`` when that cannot be known."""
        match test:
            case ast.Constant(value=bool() | int() as constant):
                return bool(constant)
            case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
                return False
            case ast.UnaryOp(
                op=ast.Not(), operand=ast.Name() | ast.Attribute() | ast.Compare() | ast.Call() as operand
            ):
                value = self.value(operand)
                return None if value is None else not value
            case ast.BoolOp(op=ast.And(), values=values):
                known = [self.value(item) for item in values if not isinstance(item, ast.BoolOp)]
                return False if False in known else None
            case ast.Call(
                func=ast.Attribute(value=ast.Attribute(value=ast.Name(id="sys"), attr="platform"), attr="startswith"),
                args=[ast.Constant(value=str() as text)],
            ):
                return _KNOWN["sys.platform"].startswith(text)
            case ast.Compare(left=left, ops=[operation], comparators=[right]):
                return self._compare(left, operation, right)
        return None

    def _compare(self, left: ast.expr, operation: ast.cmpop, right: ast.expr) -> bool | None:
        match left, right:
            case ast.Name(id="__name__"), ast.Constant(value="__main__") if isinstance(operation, ast.Eq):
                return self.main
            case ast.Attribute(value=ast.Name(id=module), attr=attribute), ast.Constant(value=str() as text):
                known = _KNOWN.get(f"{module}.{attribute}")
                if known and isinstance(operation, ast.Eq | ast.NotEq):
                    return (known == text) is isinstance(operation, ast.Eq)
            case ast.Attribute(value=ast.Name(id="sys"), attr="version_info"), ast.Tuple(elts=elements):
                numbers = [item.value for item in elements if isinstance(item, ast.Constant)]
                compare = _COMPARISONS.get(type(operation))
                if compare and 1 <= len(numbers) == len(elements) <= 2 and all(isinstance(x, int) for x in numbers):
                    self.decisive = True
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


def scan_function(function: FunctionNode, module: Module, conditions: Conditions, *, nested: bool = True) -> Scan:
    """Return what calling ``function`` runs.

    The bodies of functions in it are counted only if ``nested``: a decorator's are not run when it is applied.
    """
    scanner = _Scanner(module, conditions, nested=nested)
    scanner.push(function.body, _Scope(None, function))
    scanner.push(_defaults(function), None)
    scanner.decorate(function.decorator_list, None, optional=False)
    return scanner.run()


def scan_nodes(nodes: Iterable[ast.AST], module: Module, conditions: Conditions, *, nested: bool) -> Scan:
    """Return what executing ``nodes`` of the top level of ``module`` runs; with ``nested``, bodies of functions too."""
    scanner = _Scanner(module, conditions, nested=nested)
    scanner.push(nodes, None)
    return scanner.run()


class _Scanner:
    """One pass, by lists of nodes still to be visited instead of recursion, since trees may be deep.

    The nodes of one list share the function around them (``scope``; ``None`` at the top level of modules and classes)
    and whether an ImportError is caught (``optional``).
    """

    def __init__(self, module: Module, conditions: Conditions, *, nested: bool) -> None:
        self._module = module
        self._conditions = conditions
        self._nested = nested
        self._waiting: list[tuple[list[ast.AST], _Scope | None, bool]] = []
        self._found = Scan()
        self._read: dict[tuple[str, tuple[str, ...], str, _Scope | None], None] = {}
        self._calls: list[tuple[ast.Call, bool]] = []

    def push(self, nodes: Iterable[ast.AST], scope: _Scope | None, *, optional: bool = False) -> None:
        """Plan to visit ``nodes``."""
        self._waiting.append((list(nodes), scope, optional))

    def decorate(self, decorators: Iterable[ast.expr], scope: _Scope | None, *, optional: bool) -> None:
        """Note that ``decorators`` are applied."""
        rest: list[ast.AST] = []
        for node in decorators:
            if isinstance(node, ast.Call):
                rest += [*node.args, *node.keywords]
                node = node.func
            self._name(node, scope, "decorate", rest)
        self.push(rest, scope, optional=optional)

    def run(self) -> Scan:
        """Visit everything that is planned; return what was found."""
        while self._waiting:
            self._visit(*self._waiting.pop())
        local = self._found.local
        self._found.references = [
            Reference(root, attributes, use)
            for root, attributes, use, scope in self._read
            if root in ("self", "cls", SUPER) or root in local or scope is None or not scope.hides(root)
        ]
        for call, optional in self._calls:
            self._dynamic(call, optional=optional)
        return self._found

    def _visit(self, nodes: list[ast.AST], scope: _Scope | None, optional: bool) -> None:
        while nodes:
            node = nodes.pop()
            kind = type(node)
            visit = _VISITS.get(kind)
            if kind is ast.Name or kind is ast.Attribute:
                self._name(node, scope, "read", nodes)
            elif kind is ast.Call:
                self._call(node, scope, optional, nodes)  # type: ignore[arg-type]
            elif visit:
                visit(self, node, scope, optional)
            else:
                for field in _FIELDS[kind]:
                    value = getattr(node, field, None)
                    if type(value) is list:
                        nodes.extend([child for child in value if type(child) not in _LEAVES])
                    elif type(value) not in _LEAVES:
                        nodes.append(value)  # type: ignore[arg-type]

    def _name(self, node: ast.AST, scope: _Scope | None, use: str, rest: list[ast.AST]) -> None:
        """Note the name, or attributes of a name, ``node``; what else it stands on is still to be visited."""
        base = node
        attributes: list[str] = []
        while isinstance(base, ast.Attribute):
            attributes.append(base.attr)
            base = base.value
        attributes.reverse()
        if isinstance(base, ast.Name):
            if isinstance(base.ctx, ast.Load):
                self._read[base.id, tuple(attributes), use, scope] = None
            elif scope:
                scope.names.add(base.id)
        elif isinstance(base, ast.Call) and isinstance(base.func, ast.Name) and base.func.id == "super":
            self._read[SUPER, tuple(attributes), use, scope] = None
        else:
            rest.append(base)

    def _call(self, node: ast.Call, scope: _Scope | None, optional: bool, rest: list[ast.AST]) -> None:
        function = node.func
        # Of any name: `from importlib import import_module as load`.
        if isinstance(function, ast.Name) or getattr(function, "attr", "") in ("import_module", "__import__"):
            self._calls.append((node, optional))
        match node:
            case ast.Call(func=ast.Name(id="getattr"), args=[ast.Name(id=root), ast.Constant(value=str() as name), *_]):
                self._read[root, (name,), "read", scope] = None
        self._name(function, scope, "call", rest)
        rest.extend(node.args)
        rest.extend([keyword.value for keyword in node.keywords])

    def _try(self, node: ast.Try | ast.TryStar, scope: _Scope | None, optional: bool) -> None:
        caught = optional or _is_caught(node)
        self.push([*node.body, *node.handlers, *node.orelse], scope, optional=caught)
        self.push(node.finalbody, scope, optional=optional)

    def _with(self, node: ast.With | ast.AsyncWith, scope: _Scope | None, optional: bool) -> None:
        self.push(node.items, scope, optional=optional)
        self.push(node.body, scope, optional=optional or any(map(_suppresses, node.items)))

    def _annotated(self, node: ast.AnnAssign, scope: _Scope | None, optional: bool) -> None:
        self.push([node.target, *([node.value] if node.value else [])], scope, optional=optional)

    def _global(self, node: ast.Global, scope: _Scope | None, _optional: bool) -> None:
        if scope:
            scope.globals.update(node.names)

    def _handler(self, node: ast.ExceptHandler, scope: _Scope | None, optional: bool) -> None:
        if scope and node.name:
            scope.names.add(node.name)
        self.push([*([node.type] if node.type else []), *node.body], scope, optional=optional)

    def _pattern(self, node: ast.MatchAs | ast.MatchStar | ast.MatchMapping, scope: _Scope | None, opt: bool) -> None:
        name = node.rest if isinstance(node, ast.MatchMapping) else node.name
        if scope and name:
            scope.names.add(name)
        self.push(ast.iter_child_nodes(node), scope, optional=opt)

    def _import(self, node: ast.Import | ast.ImportFrom, scope: _Scope | None, optional: bool) -> None:
        if isinstance(node, ast.Import):
            names: list[tuple[str, str | None]] = [(alias.name, None) for alias in node.names]
        else:
            source = absolute_module(node, self._module.package)
            names = [(source, None if alias.name == "*" else alias.name) for alias in node.names]
        relative = isinstance(node, ast.ImportFrom) and node.level > 0
        self._found.imports += [Import(name, member, node.lineno, relative, optional) for name, member in names]
        if scope:
            self._found.local.update(import_bindings(node, self._module.package))

    def _function(self, node: FunctionNode | ast.Lambda, scope: _Scope | None, optional: bool) -> None:
        self.push(_defaults(node), scope, optional=optional)
        if not isinstance(node, ast.Lambda):
            self.decorate(node.decorator_list, scope, optional=optional)
            if scope:
                scope.names.add(node.name)
        if self._nested:
            body = [node.body] if isinstance(node, ast.Lambda) else node.body
            self.push(body, _Scope(scope, node))

    def _class(self, node: ast.ClassDef, scope: _Scope | None, optional: bool) -> None:
        if scope:
            scope.names.add(node.name)
        self.decorate(node.decorator_list, scope, optional=optional)
        bases = [*node.bases, *(keyword.value for keyword in node.keywords)]
        self.push([*bases, *node.body], _Scope(scope, None) if scope else None, optional=optional)

    def _if(self, node: ast.If, scope: _Scope | None, optional: bool) -> None:
        value = self._conditions.value(node.test)
        self.push([node.test], scope, optional=optional)
        if value is not False:
            self.push(node.body, scope, optional=optional)
        if value is not True:
            self.push(node.orelse, scope, optional=optional)

    def _dynamic(self, call: ast.Call, *, optional: bool) -> None:
        """Note ``importlib.import_module`` and ``__import__`` with a constant."""
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
            self._found.imports.append(Import(dotted, None, call.lineno, name.startswith("."), optional))

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


_VISITS: dict[type[ast.AST], Callable[[_Scanner, Any, _Scope | None, bool], None]] = {
    ast.Import: _Scanner._import,
    ast.ImportFrom: _Scanner._import,
    ast.FunctionDef: _Scanner._function,
    ast.AsyncFunctionDef: _Scanner._function,
    ast.Lambda: _Scanner._function,
    ast.ClassDef: _Scanner._class,
    ast.If: _Scanner._if,
    ast.Try: _Scanner._try,
    ast.TryStar: _Scanner._try,
    ast.ExceptHandler: _Scanner._handler,
    ast.With: _Scanner._with,
    ast.AsyncWith: _Scanner._with,
    ast.AnnAssign: _Scanner._annotated,
    ast.Global: _Scanner._global,
    ast.MatchAs: _Scanner._pattern,
    ast.MatchStar: _Scanner._pattern,
    ast.MatchMapping: _Scanner._pattern,
}


class _Fields(dict[type[ast.AST], tuple[str, ...]]):
    """The fields of a class of nodes that names can be in."""

    def __missing__(self, kind: type[ast.AST]) -> tuple[str, ...]:
        without = ("ctx", "op", "ops", "type_comment", "conversion", "is_async", "simple")
        self[kind] = tuple(name for name in kind._fields if name not in without)
        return self[kind]


_FIELDS = _Fields()
# What a node may hold and what no name can be in.
_LEAVES = frozenset(
    {
        *(kind for kind in vars(ast).values() if isinstance(kind, type) and not getattr(kind, "_fields", ())),
        *(ast.Constant, str, int, float, complex, bytes, bool, type(None), type(...)),
    }
)


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
