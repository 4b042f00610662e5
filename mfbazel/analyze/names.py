"""What names mean: through imports, re-exports, star imports and names that are given to other names."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mfbazel.analyze.source import (
    Binding,
    ImportBinding,
    Module,
    ModuleBinding,
    Sources,
    ValueBinding,
    import_bindings,
)

_LONGEST = 32
"""Parts of a dotted name, and steps from a name to what it means, after which it counts as unknown."""


@dataclass(frozen=True)
class Scope:
    """Where an expression stands: in a module, or (``owner``) in the body of a class of it."""

    module: Module
    owner: ast.ClassDef | None = None

    def where(self, node: ast.AST) -> str:
        """Return ``file:line`` of ``node``."""
        return self.module.where(node)


@dataclass(frozen=True)
class Found:
    """A first-party definition: what ``name`` is bound to in ``scope``."""

    scope: Scope
    name: str
    binding: Binding


@dataclass
class Names:
    """Finds what names mean. ``sources`` finds first-party modules."""

    sources: Sources
    _bodies: dict[int, Mapping[str, Binding]] = field(default_factory=dict)

    def qualified(self, expression: ast.expr, scope: Scope) -> str | None:
        """Return the dotted name that ``expression`` means in the end; ``None`` when it is not made of names.

        ``from common import pip`` is ``metaflow.pypi`` where ``common`` says ``from metaflow import pypi as pip``.
        A name that first-party code defines is that of the module it is defined in; one that nothing binds is
        ``builtins.…``.
        """
        return self._qualified(expression, scope, 0)

    def definition(self, expression: ast.expr, scope: Scope) -> Found | None:
        """Return the first-party definition that ``expression`` means, ``None`` where there is none."""
        if scope.owner is not None and isinstance(expression, ast.Name):
            binding = self.body(scope.owner).get(expression.id)
            imported = isinstance(binding, ModuleBinding | ImportBinding)
            if binding is not None and not imported and _is_before(binding, expression):
                return Found(scope, expression.id, binding)
        qualified = self.qualified(expression, scope)
        return self.defined(qualified) if qualified else None

    def defined(self, qualified: str) -> Found | None:
        """Return the definition of the first-party name ``module.name`` or ``module.Class.name``."""
        parts = qualified.split(".", _LONGEST)
        for count in range(len(parts) - 1, 0, -1):
            module = self.sources.load(".".join(parts[:count]))
            if module is not None:
                unsure = self._is_unsure(module, parts[count])
                return None if unsure else self._member(Scope(module), module.bindings, parts[count:])
        return None

    def body(self, owner: ast.ClassDef) -> Mapping[str, Binding]:
        """Return what the body of the class ``owner`` binds."""
        if id(owner) not in self._bodies:
            self._bodies[id(owner)] = dict(_bindings(owner.body))
        return self._bodies[id(owner)]

    def _member(self, scope: Scope, bindings: Mapping[str, Binding], parts: Sequence[str]) -> Found | None:
        binding = bindings.get(parts[0])
        if binding is None or isinstance(binding, ModuleBinding | ImportBinding):
            return None
        if len(parts) == 1:
            return Found(scope, parts[0], binding)
        if isinstance(binding, ast.ClassDef):
            return self._member(Scope(scope.module, binding), self.body(binding), parts[1:])
        return None

    def _qualified(self, expression: ast.expr, scope: Scope, depth: int) -> str | None:
        parts: list[str] = []
        while isinstance(expression, ast.Attribute) and len(parts) < _LONGEST:
            parts.append(expression.attr)
            expression = expression.value
        if not isinstance(expression, ast.Name) or depth > _LONGEST:
            return None
        head = self._name(expression, scope, depth)
        return self._canonical([*head.split("."), *reversed(parts)], depth) if head else None

    def _name(self, expression: ast.Name, scope: Scope, depth: int) -> str | None:
        name = expression.id
        if scope.owner is not None:
            binding = self.body(scope.owner).get(name)
            if binding is not None and _is_before(binding, expression):
                return self._bound(name, binding, scope, depth)
        binding = scope.module.bindings.get(name)
        if binding is not None:
            if not _is_before(binding, expression) or self._is_unsure(scope.module, name):
                return None
            return self._bound(name, binding, Scope(scope.module), depth)
        return self._from_star(name, scope.module) or f"builtins.{name}"

    def _bound(self, name: str, binding: Binding, scope: Scope, depth: int) -> str | None:
        match binding:
            case ModuleBinding(dotted=dotted):
                return dotted
            case ImportBinding(module=module, name=member):
                return f"{module}.{member}"
            case ValueBinding(value=ast.Name() | ast.Attribute() as value, constant=True):
                return self._qualified(value, scope, depth + 1)
        owner = f"{scope.owner.name}." if scope.owner is not None else ""
        return f"{scope.module.dotted}.{owner}{name}"

    def _from_star(self, name: str, module: Module, seen: set[str] | None = None) -> str | None:
        """Return what ``from … import *`` makes of ``name``; a module that is not first-party may bring any name."""
        foreign = None
        seen = set() if seen is None else seen
        for star in reversed(module.stars):
            if star in seen:
                continue
            source = self.sources.load(star)
            if source is not None:
                seen.add(star)
                if name in source.bindings:
                    return f"{star}.{name}"
                found = self._from_star(name, source, seen)
                if found:
                    return found
            elif star == "metaflow" or foreign is None:
                foreign = f"{star}.{name}"
        return foreign if foreign and not hasattr(builtins, name) else None

    def _canonical(self, parts: list[str], depth: int) -> str | None:
        """Follow what first-party modules import from elsewhere."""
        if depth > _LONGEST or len(parts) > 2 * _LONGEST:
            return None
        if parts[0] in ("metaflow", "builtins"):
            return ".".join(parts)
        for count in range(len(parts) - 1, 0, -1):
            module = self.sources.load(".".join(parts[:count]))
            if module is None:
                continue
            followed = self._followed(module, parts[count], depth)
            if followed is None or followed == ".".join(parts[: count + 1]):
                break
            return self._canonical([*followed.split("."), *parts[count + 1 :]], depth + 1)
        return ".".join(parts)

    def _followed(self, module: Module, name: str, depth: int) -> str | None:
        binding = module.bindings.get(name)
        if binding is None:
            return self._from_star(name, module)
        return None if self._is_unsure(module, name) else self._bound(name, binding, Scope(module), depth + 1)

    def _is_unsure(self, module: Module, name: str) -> bool:
        """Say whether ``name`` is bound more than once in ``module``, also by a first-party ``from … import *``."""
        if name in module.unsure:
            return True
        for star, before in zip(module.stars, module.before_stars, strict=True):
            source = self.sources.load(star) if name in before else None
            if source is not None and (name in source.bindings or source.stars):
                return True
        return False


def _is_before(binding: Binding, expression: ast.Name) -> bool:
    """Say whether ``binding`` is made before ``expression`` is evaluated, both while the module is imported.

    Of a name that is bound several times only the last binding is known; so one that comes later says that the name
    means something else. Where imports stand is not known.
    """
    if isinstance(binding, ModuleBinding | ImportBinding):
        return True
    made: ast.AST = binding.value if isinstance(binding, ValueBinding) else binding
    end = (getattr(made, "end_lineno", 0) or 0, getattr(made, "end_col_offset", 0) or 0)
    return end <= (expression.lineno, expression.col_offset)


def _bindings(statements: Sequence[ast.stmt], *, conditional: bool = False) -> Iterator[tuple[str, Binding]]:
    """Yield what ``statements``, the body of a class, bind; a value is constant when it is bound once."""
    found: dict[str, Binding] = {}
    for statement in statements:
        for name, binding in _bound_by(statement, conditional=conditional):
            if isinstance(binding, ValueBinding) and name in found:
                binding = ValueBinding(binding.value, binding.line, constant=False)
            found[name] = binding
    yield from found.items()


def _bound_by(statement: ast.stmt, *, conditional: bool) -> Iterator[tuple[str, Binding]]:
    match statement:
        case ast.Import() | ast.ImportFrom():
            yield from import_bindings(statement, "").items()
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield statement.name, statement
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                if isinstance(target, ast.Name):
                    yield target.id, ValueBinding(value, statement.lineno, constant=not conditional)
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            yield name, ValueBinding(value, statement.lineno, constant=not conditional)
        case ast.AugAssign(target=ast.Name(id=name), value=value):
            yield name, ValueBinding(value, statement.lineno, constant=False)
        case _:
            for block in blocks(statement):
                yield from _bindings(block, conditional=True)


def blocks(statement: ast.stmt) -> Iterator[Sequence[ast.stmt]]:
    """Yield the blocks of statements that a compound statement is made of."""
    for name in ("body", "orelse", "finalbody"):
        block = getattr(statement, name, None)
        if isinstance(block, list):
            yield block
    for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
        yield part.body
