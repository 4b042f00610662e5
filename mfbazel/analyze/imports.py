"""Third-party imports of a flow's steps: those that loading its file executes, and those in what a step reaches.

Nothing is imported or run. First-party modules (beside the flow, or in an import root) are followed as Python would.
What counts:

* for every step, what loading the flow's file executes: the imports at the top level of the file, of the first-party
  modules that it imports and of the functions that are called on the way;
* for one step, what is in its function and in the functions, methods and classes that it can reach, its decorators
  included; ``importlib.import_module`` and ``__import__`` with a constant are imports, too.

What does not: branches that are not taken (``TYPE_CHECKING``, another Python than the step's, ``__main__`` of another
file), and third-party imports whose failure is caught (``try`` … ``except ImportError``, ``contextlib.suppress``).
"""

from __future__ import annotations

import ast
import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from os.path import isdir, isfile
from typing import NamedTuple

from mfbazel.analyze.classes import Class, Classes
from mfbazel.analyze.errors import AnalyzeError
from mfbazel.analyze.imports_scan import (
    SUPER,
    Conditions,
    Import,
    Reference,
    Scan,
    scan_function,
    scan_nodes,
)
from mfbazel.analyze.model import Inferred, Place
from mfbazel.analyze.options import ReadOptions
from mfbazel.analyze.raw import RawFlow, RawStep
from mfbazel.analyze.requirements import effective
from mfbazel.analyze.source import (
    Binding,
    FunctionNode,
    ImportBinding,
    Module,
    ModuleBinding,
    Sources,
    ValueBinding,
)
from mfbazel.analyze.stdlib import is_stdlib

_METAFLOW = frozenset({"metaflow", "metaflow_extensions"})
_CONSTRUCTORS = frozenset({"__init__", "__new__", "__post_init__", "__call__"})
_DEEPEST = 50
_PLAIN = (ast.Expr, ast.Assign, ast.Return)  # statements that hold no other ones
_Target = tuple[Module, Binding]
_Python = tuple[int, int]


def read_imports(
    raw: RawFlow, module: Module, sources: Sources, options: ReadOptions
) -> dict[str, tuple[Inferred, ...]]:
    """Return per step of ``raw`` the modules that are neither first-party nor of the standard library.

    Where the class of the flow does not stand in its file (a factory makes it), the functions at the places of the
    steps are read, with the methods of the class around them if there is one.

    Args:
        raw: the flow; ``place`` of a step says where its function stands.
        module: the flow's file.
        sources: its first-party modules.
        options: the Python of steps that declare none.

    Returns:
        One entry per module path, sorted; it names a place in the flow's own file where there is one.

    Raises:
        AnalyzeError: a first-party module that is imported does not parse.
    """
    reader = _Reader(raw, module, sources)
    return {step.name: reader.step(step, _python(step, options)) for step in raw.steps}


def _python(step: RawStep, options: ReadOptions) -> _Python:
    """Return the Python of ``step``; that of the options where it declares none or is disabled."""
    try:
        declared = effective(step.pypi, step.conda)
    except AnalyzeError:  # said later, with its place
        return _version(options.python)
    return _version(declared.python if declared.python and not declared.disabled else options.python)


def _version(text: str) -> _Python:
    match = re.search(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else _version(ReadOptions().python)


class _Entry(NamedTuple):
    """One third-party name at one place."""

    module: str
    member: str | None
    file: str
    line: int


class _Method(NamedTuple):
    """A function of a class of the flow."""

    module: Module
    function: FunctionNode


class _Todo(NamedTuple):
    """Something that runs: a module's top level, a function, a class, or the value of a name.

    ``of_flow``: ``self`` in it is the flow. ``nested``: bodies of functions inside count.
    """

    module: Module
    node: ast.AST | None = None
    of_flow: bool = True
    nested: bool = True


@dataclass
class _Reach:
    """What some code reaches: third-party names, and what has been visited (also by what runs before it)."""

    found: set[_Entry] = field(default_factory=set)
    visited: set[tuple[int, bool]] = field(default_factory=set)
    todo: list[_Todo] = field(default_factory=list)

    def add(self, item: _Todo) -> None:
        """Plan ``item`` unless it has been."""
        key = (id(item.node or item.module), item.nested)
        if key not in self.visited:
            self.visited.add(key)
            self.todo.append(item)


@dataclass
class _Family:
    """The classes of the flow, what they define and what they assign, those that win first."""

    classes: set[int] = field(default_factory=set)
    methods: dict[str, list[_Method]] = field(default_factory=dict)
    values: dict[str, tuple[Module, ast.expr]] = field(default_factory=dict)

    @classmethod
    def of(cls, definition: Class, classes: Classes) -> _Family:
        """Collect ``definition`` and its first-party bases; others are left out."""
        family, waiting = cls(), [definition]
        while waiting:
            module, node = waiting.pop(0)
            if id(node) in family.classes:
                continue
            family.classes.add(id(node))
            family._collect(module, node.body)
            waiting += classes.parents((module, node))
        return family

    def _collect(self, module: Module, body: Iterable[ast.stmt]) -> None:
        waiting: deque[ast.AST] = deque(body)
        while waiting:
            node = waiting.popleft()
            if isinstance(node, FunctionNode):
                self.methods.setdefault(node.name, []).append(_Method(module, node))
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [target.id for target in targets if isinstance(target, ast.Name)]
                if node.value is not None:
                    self.values.update({name: (module, node.value) for name in names if name not in self.values})
            elif isinstance(node, ast.stmt | ast.ExceptHandler) and not isinstance(node, ast.ClassDef):
                waiting.extend(ast.iter_child_nodes(node))


class _Reader:
    """Reads the imports of a flow. What does not depend on the Python is scanned and loaded once for all."""

    def __init__(self, raw: RawFlow, module: Module, sources: Sources) -> None:
        self._module = module
        self._steps = {step.name for step in raw.steps}
        self._start = raw.start
        self._lookup = _Lookup(sources)
        self._functions = _Functions(module, sources)
        self._classes = Classes(sources, module)
        self._families: dict[int, _Family] = {}
        self._class = self._find_class(raw)
        self._scans: dict[tuple[int, bool, _Python | None], Scan] = {}
        self._merged: dict[tuple[frozenset[_Entry], str], tuple[Inferred, ...]] = {}
        self._loadings: dict[_Python | None, _Reach] = {}

    def step(self, step: RawStep, python: _Python) -> tuple[Inferred, ...]:
        """Return what ``step`` imports in ``python``."""
        loading = self._load(python)
        reach = _Reach(set(loading.found), set(loading.visited))
        found = self._functions.at(step.place, step.name)
        definition = self._class or (found[1] if found else None)
        family = self._family(definition) if definition else _Family()
        function = found[0] if found else next(iter(family.methods.get(step.name, ())), None)
        if function:
            reach.add(_Todo(function.module, function.function))
        if step.name == self._start and definition:
            # Arguments of the flow's decorators run in the first step's image (exit hooks) if anywhere.
            for decorator in definition[1].decorator_list:
                reach.add(_Todo(definition[0], decorator))
        self._run(reach, family, python)
        return self._inferred(reach.found, f"{python[0]}.{python[1]}")

    def _find_class(self, raw: RawFlow) -> Class | None:
        binding = self._module.bindings.get(raw.name)
        return (self._module, binding) if isinstance(binding, ast.ClassDef) else None

    def _family(self, definition: Class) -> _Family:
        key = id(definition[1])
        if key not in self._families:
            self._families[key] = _Family.of(definition, self._classes)
        return self._families[key]

    def _load(self, python: _Python) -> _Reach:
        """Return what loading the flow's file reaches."""
        found = self._loadings.get(None) or self._loadings.get(python)
        if found is None:
            found = _Reach()
            found.add(_Todo(self._module))
            decisive = self._run(found, _Family(), python)
            self._loadings[python if decisive else None] = found
        return found

    def _inferred(self, found: Collection[_Entry], python: str) -> tuple[Inferred, ...]:
        """Merge the entries of each module path."""
        key = (frozenset(found), python)
        if key not in self._merged:
            grouped: dict[str, list[_Entry]] = {}
            for entry in found:
                if not is_stdlib(entry.module, python):
                    grouped.setdefault(entry.module, []).append(entry)
            self._merged[key] = tuple(self._merge(name, entries) for name, entries in sorted(grouped.items()))
        return self._merged[key]

    def _merge(self, module: str, entries: Collection[_Entry]) -> Inferred:
        place = min(entries, key=lambda entry: (entry.file != self._module.shown, entry.file, entry.line))
        members = tuple(sorted({entry.member for entry in entries if entry.member}))
        return Inferred(module, place.file, place.line, members)

    def _run(self, reach: _Reach, family: _Family, python: _Python) -> bool:
        """Follow everything planned; say whether something depended on the Python."""
        decisive = False
        while reach.todo:
            item = reach.todo.pop()
            scan, depends = self._scan(item, python)
            decisive = decisive or depends
            for imported in scan.imports:
                self._import(imported, item.module, reach)
            for reference in scan.references:
                if item.node is None:
                    self._loads(reference, item.module, reach)
                else:
                    self._reads(reference, item, scan.local, reach, family)
        return decisive

    def _scan(self, item: _Todo, python: _Python) -> tuple[Scan, bool]:
        """Return the scan of ``item`` and whether it depends on the Python."""
        node = item.node
        key = (id(node or item.module), item.nested)
        for kept in (None, python):
            if (*key, kept) in self._scans:
                return self._scans[*key, kept], kept is not None
        conditions = Conditions(python, item.module is self._module)
        if isinstance(node, FunctionNode):
            scan = scan_function(node, item.module, conditions, nested=item.nested)
        else:
            nodes = item.module.tree.body if node is None else [node]
            scan = scan_nodes(nodes, item.module, conditions, nested=node is not None)
        self._scans[*key, python if conditions.decisive else None] = scan
        return scan, conditions.decisive

    def _import(self, imported: Import, module: Module, reach: _Reach) -> None:
        """Follow what is first-party with the packages around it; note what is third-party."""
        name = imported.module
        if name.partition(".")[0] in _METAFLOW:
            return
        inner = f"{name}.{imported.member}" if imported.member else name
        if inner != name and self._lookup.is_first_party(inner):
            name = inner
        if self._lookup.is_ours(name, inner):
            for found in self._lookup.chain(name):
                reach.add(_Todo(found))
        elif name and not imported.relative and not imported.optional:
            reach.found.add(_Entry(name, imported.member, module.shown, imported.line))

    def _loads(self, reference: Reference, module: Module, reach: _Reach) -> None:
        """Follow what the top level of ``module`` calls: functions, constructors, decorators being applied."""
        if reference.use == "read":
            return
        target = self._lookup.resolve(reference, module, {})
        if target is None:
            return
        owner, binding = target
        if isinstance(binding, FunctionNode):
            reach.add(_Todo(owner, binding, nested=reference.use == "call"))
        elif isinstance(binding, ast.ClassDef):
            every = reference.use == "decorate"  # a mutator's methods are called wherever the flow is loaded
            for statement in binding.body:
                if isinstance(statement, FunctionNode) and (every or statement.name in _CONSTRUCTORS):
                    reach.add(_Todo(owner, statement, of_flow=False))

    def _reads(
        self, reference: Reference, item: _Todo, local: Mapping[str, Binding], reach: _Reach, family: _Family
    ) -> None:
        """Follow a name that running code reads."""
        if reference.root in ("self", "cls", SUPER):
            if item.of_flow and reference.attributes:
                self._method(reference, item, reach, family)
            return
        target = self._lookup.resolve(reference, item.module, local)
        if target is None:
            return
        owner, binding = target
        if isinstance(binding, FunctionNode):
            reach.add(_Todo(owner, binding))
        elif isinstance(binding, ast.ClassDef) and id(binding) in family.classes:
            for method in family.methods.get(reference.attributes[0], ()) if reference.attributes else ():
                reach.add(_Todo(method.module, method.function))
        elif isinstance(binding, ast.ClassDef):
            reach.add(_Todo(owner, binding, of_flow=False))
        elif isinstance(binding, ValueBinding):
            reach.add(_Todo(owner, binding.value, of_flow=False))

    def _method(self, reference: Reference, item: _Todo, reach: _Reach, family: _Family) -> None:
        name = reference.attributes[0]
        methods = family.methods.get(name, [])
        if reference.root == SUPER:
            methods = [method for method in methods if method.function is not item.node]
        elif name in self._steps:  # `self.next(self.other)` does not run the other step here
            return
        else:
            methods = methods[:1]
        for method in methods:
            reach.add(_Todo(method.module, method.function))
        if not methods and name in family.values:
            owner, value = family.values[name]
            reach.add(_Todo(owner, value))


_Found = tuple[_Method, Class | None]


class _Functions:
    """Finds the functions that places of steps mean."""

    def __init__(self, module: Module, sources: Sources) -> None:
        self._module = module
        self._sources = sources
        self._by_file: dict[str, dict[int, list[_Found]]] = {}

    def at(self, place: Place, name: str) -> _Found | None:
        """Return the function at ``place`` with the class around it: the one named ``name`` where there are several.

        ``place`` may name the ``def`` or a decorator of it.
        """
        if place.file not in self._by_file:
            self._by_file[place.file] = self._index(place.file)
        there = self._by_file[place.file].get(place.line, [])
        named = [item for item in there if item[0].function.name == name]
        exact = [item for item in there if item[0].function.lineno == place.line]
        return next(iter(named[-1:] or exact), None)

    def _index(self, file: str) -> dict[int, list[_Found]]:
        """Return the functions of ``file`` by line, from the first decorator to the first statement."""
        module = self._load(file)
        found: dict[int, list[_Found]] = {}
        for item in _functions(module) if module else ():
            function = item[0].function
            begin = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
            for line in range(begin, function.body[0].lineno + 1):
                found.setdefault(line, []).append(item)
        return found

    def _load(self, file: str) -> Module | None:
        if file == self._module.shown:
            return self._module
        dotted = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        return self._sources.load(dotted) if file.endswith(".py") else None


def _functions(module: Module) -> Iterator[_Found]:
    waiting: list[tuple[ast.AST, Class | None]] = [(module.tree, None)]
    while waiting:
        node, around = waiting.pop()
        if isinstance(node, FunctionNode):
            yield _Method(module, node), around
        elif isinstance(node, ast.ClassDef):
            around = (module, node)
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            inside = getattr(node, name, None)
            if isinstance(inside, list):  # that of a conditional expression is none
                waiting.extend([(child, around) for child in inside if not isinstance(child, _PLAIN)])


class _Lookup:
    """What dotted names mean in first-party code."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._roots = [str(root) for root in sources.roots]
        self._tops: dict[str, bool] = {}
        self._party: dict[str, bool] = {}
        self._resolved: dict[tuple[int, Reference], _Target | None] = {}

    def is_first_party(self, dotted: str) -> bool:
        """Say whether ``dotted`` is a first-party module or package, one without ``__init__.py`` included."""
        if dotted not in self._party:
            self._party[dotted] = self._may_be(dotted) and self._sources.is_first_party(dotted)
        return self._party[dotted]

    def _may_be(self, dotted: str) -> bool:
        """Ask the file system once for the first part, which settles most names."""
        top = dotted.partition(".")[0]
        if top not in self._tops:
            # Not pathlib: for a large part of what reading a flow takes, this is it.
            places = [f"{root}/{top}" for root in self._roots] if top.isidentifier() else []
            self._tops[top] = any(isfile(f"{place}.py") or isdir(place) for place in places)  # noqa: PTH112, PTH113
        return self._tops[top]

    def _load(self, dotted: str) -> Module | None:
        return self._sources.load(dotted) if self._may_be(dotted) else None

    def is_ours(self, name: str, inner: str) -> bool:
        """Say whether an import from ``name`` stays in first-party code; ``inner`` is what it imports there.

        A directory without ``__init__.py`` may share its name with others: there ``inner`` decides. In a package with
        one, what is not found is a mistake, and no third-party package.
        """
        if not self._may_be(name):
            return False
        if any(True for _ in self.chain(name)):
            return True
        return self.is_first_party(inner)

    def chain(self, dotted: str) -> Iterator[Module]:
        """Yield the first-party modules that importing ``dotted`` loads: packages around it, and itself."""
        parts = dotted.split(".", _DEEPEST)[:_DEEPEST]
        for end in range(1, len(parts) + 1):
            module = self._load(".".join(parts[:end]))
            if module:
                yield module

    def resolve(self, reference: Reference, module: Module, local: Mapping[str, Binding]) -> _Target | None:
        """Return the first-party function, class or value that ``reference`` in ``module`` means, or what holds it."""
        if reference.root in local:
            return self._bound(module, local[reference.root], reference.attributes, 0)
        key = (id(module), reference)
        if key not in self._resolved:
            self._resolved[key] = self._name(module, reference.root, reference.attributes, 0)
        return self._resolved[key]

    def _name(self, module: Module, name: str, attributes: tuple[str, ...], depth: int) -> _Target | None:
        binding = module.bindings.get(name)
        if binding is not None:
            return self._bound(module, binding, attributes, depth)
        for star in reversed(module.stars):
            found = self._dotted((*star.split("."), name, *attributes), depth + 1)
            if found:
                return found
        return None

    def _bound(self, module: Module, binding: Binding, attributes: tuple[str, ...], depth: int) -> _Target | None:
        if isinstance(binding, ModuleBinding):
            return self._dotted((*binding.dotted.split("."), *attributes), depth + 1)
        if isinstance(binding, ImportBinding):
            source = binding.module.split(".") if binding.module else []
            return self._dotted((*source, binding.name, *attributes), depth + 1)
        return module, binding

    def _dotted(self, parts: tuple[str, ...], depth: int) -> _Target | None:
        """Resolve an absolute name: the longest module in it, then what that one binds."""
        if depth > _DEEPEST or not self._may_be(parts[0]):
            return None
        parts = parts[:_DEEPEST]
        for end in range(len(parts) - 1, 0, -1):
            module = self._load(".".join(parts[:end]))
            if module:
                return self._name(module, parts[end], parts[end + 1 :], depth)
        return None
