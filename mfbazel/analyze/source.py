"""Source files as trees, what their top level binds to names, and where first-party modules lie."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mfbazel.analyze.errors import AnalyzeError

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


@dataclass
class Module:
    """A parsed file. ``shown`` is its path in results and errors; ``dotted`` its name, ``package`` that of
    its package."""

    path: Path
    shown: str
    dotted: str
    package: str
    tree: ast.Module
    bindings: dict[str, Binding] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    conditional: set[int] = field(default_factory=set)

    def where(self, node: ast.AST) -> str:
        """Return ``file:line`` of ``node``."""
        return f"{self.shown}:{getattr(node, 'lineno', 1)}"

    def qualified(self, expression: ast.expr, local: dict[str, Binding] | None = None) -> str | None:
        """Return the dotted name that ``expression`` (names and attributes) means through imports, or ``None``."""
        parts: list[str] = []
        while isinstance(expression, ast.Attribute):
            parts.insert(0, expression.attr)
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
        return ".".join([head, *parts])


def parse(path: Path, shown: str, dotted: str = "__main__", package: str = "") -> Module:
    """Read and parse ``path``.

    Raises:
        AnalyzeError: it cannot be read or does not parse (file, line, column and Python's message).
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AnalyzeError(f"{shown}: cannot read the file: {error.strerror}") from error
    try:
        tree = ast.parse(content, filename=shown)
    except SyntaxError as error:
        place = f"{shown}:{error.lineno or 1}:{error.offset or 1}"
        raise AnalyzeError(f"{place}: the file does not parse: {error.msg}. Correct it and try again.") from error
    except ValueError as error:
        raise AnalyzeError(f"{shown}: the file does not parse: {error}. Correct it and try again.") from error
    module = Module(path, shown, dotted, package, tree)
    _bind(module, tree.body, conditional=False)
    return module


def _bind(module: Module, statements: Sequence[ast.stmt], *, conditional: bool) -> None:
    for statement in statements:
        if conditional:
            module.conditional.add(id(statement))
        match statement:
            case ast.Import() | ast.ImportFrom():
                module.bindings.update(import_bindings(statement, module.package))
                if isinstance(statement, ast.ImportFrom) and any(alias.name == "*" for alias in statement.names):
                    module.stars.append(absolute_module(statement, module.package))
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                module.bindings[statement.name] = statement
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
                _bind_value(module, statement, conditional=conditional)
            case _:
                for body in _bodies(statement):
                    _bind(module, body, conditional=True)


def _bind_value(module: Module, statement: ast.Assign | ast.AnnAssign | ast.AugAssign, *, conditional: bool) -> None:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    if statement.value is None:
        return
    for target in targets:
        if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
            # `PACKAGES["x"] = …` changes what the name holds.
            previous = module.bindings.get(target.value.id)
            if isinstance(previous, ValueBinding):
                module.bindings[target.value.id] = ValueBinding(previous.value, statement.lineno, constant=False)
        if isinstance(target, ast.Name):
            once = not conditional and target.id not in module.bindings and not isinstance(statement, ast.AugAssign)
            module.bindings[target.id] = ValueBinding(statement.value, statement.lineno, once)


def _bodies(statement: ast.stmt) -> Iterator[Sequence[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        body = getattr(statement, name, None)
        if isinstance(body, list):
            yield body
    for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
        yield part.body


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


class Sources:
    """Finds and parses first-party modules: those beside the flow file and below the given import roots."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = tuple(roots)
        self._modules: dict[str, Module | None] = {}

    def add(self, module: Module) -> None:
        """Make ``module`` known, so that it is not read again when another one imports it."""
        self._modules[module.dotted] = module

    def load(self, dotted: str) -> Module | None:
        """Return the first-party module ``dotted``, or ``None`` when there is none (or it is a namespace package).

        Raises:
            AnalyzeError: it does not parse.
        """
        if dotted not in self._modules:
            self._modules[dotted] = None
            self._modules[dotted] = self._find(dotted)
        return self._modules[dotted]

    def is_first_party(self, dotted: str) -> bool:
        """Say whether ``dotted`` is a first-party module or package, one without ``__init__.py`` included."""
        if self.load(dotted):
            return True
        directories = (root.joinpath(*dotted.split(".")) for root in self.roots) if dotted else ()
        return any(
            next(directory.glob(pattern), None) is not None
            for directory in directories
            if directory.is_dir()
            for pattern in ("*.py", "*/*.py")
        )

    def _find(self, dotted: str) -> Module | None:
        parts = dotted.split(".")
        if not all(part.isidentifier() for part in parts):
            return None
        for root in self.roots:
            file = root.joinpath(*parts).with_suffix(".py")
            if file.is_file():
                return parse(file, file.relative_to(root).as_posix(), dotted, ".".join(parts[:-1]))
            init = root.joinpath(*parts, "__init__.py")
            if init.is_file():
                return parse(init, init.relative_to(root).as_posix(), dotted, dotted)
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
