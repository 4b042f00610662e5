"""Third-party imports: those that loading the flow executes, and those in what a step reaches."""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mfbazel.analyze.model import Inferred
from mfbazel.analyze.options import ReadOptions
from mfbazel.analyze.raw import RawFlow
from mfbazel.analyze.source import Binding, FunctionNode, Module, Sources, absolute_module, import_bindings

_NOT_THIRD_PARTY = frozenset({*sys.stdlib_module_names, "metaflow", "metaflow_extensions", "__future__"})
_OPTIONAL = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})
_Method = tuple[Module, FunctionNode]


def read_imports(
    raw: RawFlow, module: Module, sources: Sources, options: ReadOptions
) -> dict[str, tuple[Inferred, ...]]:
    """Return per step of ``raw`` the modules that are neither first-party nor of the standard library.

    Args:
        raw: the flow; ``place`` of a step says where its function stands.
        module: the flow's file.
        sources: its first-party modules.
        options: the Python of steps that declare none.
    """
    return {step.name: () for step in raw.steps}


@dataclass
class Reach:
    """What a piece of code loads: third-party modules found so far, and what has been visited."""

    found: set[Inferred] = field(default_factory=set)
    modules: set[str] = field(default_factory=set)
    functions: set[int] = field(default_factory=set)


@dataclass
class ImportReader:
    """Reads the imports of a flow whose methods (with those inherited) are ``methods``, ``steps`` among them."""

    sources: Sources
    methods: Mapping[str, _Method]
    steps: Collection[str]

    def of_loading(self, module: Module) -> set[Inferred]:
        """Return the third-party imports that executing the flow's file causes."""
        reach = Reach()
        self._load(module, reach)
        return reach.found

    def of_step(self, name: str) -> set[Inferred]:
        """Return the third-party imports in the step ``name`` and the functions and methods that it reaches."""
        reach = Reach()
        module, function = self.methods[name]
        self._function(module, function, reach)
        return reach.found

    def _load(self, module: Module, reach: Reach) -> None:
        """Follow what executing ``module`` imports, and the first-party functions that its top level calls."""
        if module.dotted in reach.modules:
            return
        reach.modules.add(module.dotted)
        for statement in _imports(module.tree.body, functions=False):
            self._import(statement, module, reach)
        for expression in _top_level_calls(module.tree):
            target = self._resolve(expression, module, {})
            if target and isinstance(target[1], FunctionNode):
                self._function(target[0], target[1], reach)

    def _import(self, statement: ast.Import | ast.ImportFrom, module: Module, reach: Reach) -> None:
        if isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        else:
            source = absolute_module(statement, module.package)
            inner = [f"{source}.{alias.name}" for alias in statement.names if alias.name != "*"]
            names = [name for name in inner if self.sources.is_first_party(name)] or [source]
        for name in names:
            self._imported(name, Inferred(name.partition(".")[0], module.shown, statement.lineno), reach)

    def _imported(self, dotted: str, entry: Inferred, reach: Reach) -> None:
        """Follow the first-party module ``dotted`` with the packages around it, or note a third-party one."""
        if not self.sources.is_first_party(dotted):
            if entry.module and entry.module not in _NOT_THIRD_PARTY:
                reach.found.add(entry)
            return
        parts = dotted.split(".")
        for end in range(1, len(parts) + 1):
            module = self.sources.load(".".join(parts[:end]))
            if module:
                self._load(module, reach)

    def _function(self, module: Module, function: FunctionNode, reach: Reach) -> None:
        if id(function) in reach.functions:
            return
        reach.functions.add(id(function))
        local: dict[str, Binding] = {}
        for statement in _imports(function.body, functions=True):
            self._import(statement, module, reach)
            local.update(import_bindings(statement, module.package))
        for reference in _references(function):
            self._follow(reference, module, local, reach)

    def _follow(self, reference: ast.expr, module: Module, local: dict[str, Binding], reach: Reach) -> None:
        match reference:
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name) if name in self.methods:
                if name not in self.steps:  # `self.next(self.other_step)` does not run the other step here
                    self._function(*self.methods[name], reach)
                return
        target = self._resolve(reference, module, local)
        if target is None:
            return
        owner, binding = target
        if isinstance(binding, FunctionNode):
            self._function(owner, binding, reach)
        elif isinstance(binding, ast.ClassDef) and id(binding) not in reach.functions:
            reach.functions.add(id(binding))
            for method in binding.body:
                if isinstance(method, FunctionNode):
                    self._function(owner, method, reach)
            for base in binding.bases:
                self._follow(base, owner, {}, reach)

    def _resolve(self, reference: ast.expr, module: Module, local: dict[str, Binding]) -> tuple[Module, Binding] | None:
        """Return the first-party function or class that ``reference`` means, also as ``module.Class.method``."""
        if isinstance(reference, ast.Name) and reference.id not in local:
            binding = module.bindings.get(reference.id)
            if isinstance(binding, FunctionNode | ast.ClassDef):
                return module, binding
        qualified = module.qualified(reference, local)
        while qualified and "." in qualified:
            found = self.sources.definition(qualified)
            if found:
                return found
            qualified = qualified.rpartition(".")[0]
        return None


def _imports(statements: Iterable[ast.stmt], *, functions: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports in ``statements`` that count: not those for type checkers, nor those that may fail."""
    for statement in statements:
        match statement:
            case ast.Import() | ast.ImportFrom():
                yield statement
            case ast.FunctionDef() | ast.AsyncFunctionDef() if not functions:
                continue
            case ast.If(test=test) if _is_type_checking(test):
                yield from _imports(statement.orelse, functions=functions)
            case ast.Try() if _may_fail(statement):
                yield from _imports(statement.finalbody, functions=functions)
            case _:
                for body in _inner(statement):
                    yield from _imports(body, functions=functions)


def _inner(statement: ast.stmt) -> Iterator[Sequence[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        value = getattr(statement, name, None)
        if isinstance(value, list):
            yield value
    for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
        yield part.body


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test).rpartition(".")[2] == "TYPE_CHECKING"


def _may_fail(statement: ast.Try) -> bool:
    """Say whether the failure of an import in ``statement`` is caught."""
    for handler in statement.handlers:
        if handler.type is None:
            return True
        caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        if any(ast.unparse(name).rpartition(".")[2] in _OPTIONAL for name in caught):
            return True
    return False


def _references(function: FunctionNode) -> Iterator[ast.expr]:
    """Yield the names and attribute chains that the body and the defaults of ``function`` read."""
    stack: list[ast.AST] = [
        *function.body,
        *function.args.defaults,
        *(item for item in function.args.kw_defaults if item),
    ]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Name | ast.Attribute):
            yield node
        if not isinstance(node, ast.Name):
            stack.extend(ast.iter_child_nodes(node))


def _top_level_calls(tree: ast.Module) -> Iterator[ast.expr]:
    """Yield what the top level of a file calls while it is imported."""
    stack: list[ast.AST] = list(tree.body)
    while stack:
        node = stack.pop()
        if isinstance(node, FunctionNode | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'":
            continue
        if isinstance(node, ast.Call):
            yield node.func
        stack.extend(ast.iter_child_nodes(node))
