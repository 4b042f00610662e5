"""Which dicts and lists of a module something changes after they were assigned."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise

from mfbazel.analyze.source import Module

_CHANGING = frozenset(
    (
        "append",
        "extend",
        "insert",
        "remove",
        "sort",
        "reverse",
        "pop",
        "popitem",
        "clear",
        "update",
        "setdefault",
        "add",
        "discard",
        "__setitem__",
        "__delitem__",
        "__ior__",
        "__iadd__",
    )
)
"""Methods of dict and list that change the object."""
_KINDS: tuple[type[ast.AST], ...] = (
    ast.Assign,
    ast.AugAssign,
    ast.AnnAssign,
    ast.Delete,
    ast.For,
    ast.AsyncFor,
    ast.withitem,
    ast.NamedExpr,
    ast.Global,
    ast.Call,
)
_NAMESPACE = frozenset(("exec", "globals", "locals", "vars"))
_READING = frozenset(
    (
        "print",
        "len",
        "dict",
        "list",
        "tuple",
        "set",
        "frozenset",
        "sorted",
        "str",
        "repr",
        "bool",
        "any",
        "all",
        "sum",
        "min",
        "max",
        "isinstance",
        "type",
        "zip",
        "enumerate",
        "iter",
        "map",
        "filter",
        "range",
        "reversed",
    )
)
"""Built-in functions that leave their arguments as they are."""

_ARGUMENTS = tuple(f"{mark}{name}=" for mark in ("(", ", ") for name in ("packages", "libraries", "vars"))
"""What stands before a name that a decorator is given."""
_IMPORT_OF_MORE = re.compile(r"[;(\\#]| as ")
"""What a line with an import holds that is more than plain names."""


def touched(module: Module) -> Mapping[str, int]:
    """Return the line in which each name (``NAME`` or ``module.NAME``) is changed, or may be.

    That is: assigned to an entry or an attribute of it, a method that changes it, ``del``, ``global`` in a function, a
    name that a loop or ``with`` binds, or being handed to a function while the module is imported. What happens through
    another name of the same object counts, too. Functions are taken to run. Arguments by keyword are taken to be read
    only: so Metaflow's decorators and parameters get theirs.
    """
    found: dict[str, int] = {}
    for kind in _KINDS:
        for inside in (False, True):
            for node in module.nodes(kind, inside=inside):
                for path in _changed(node, inside=inside):
                    found.setdefault(path, getattr(node, "lineno", 1))
    aliases = [pair for node in module.nodes(ast.Assign) for pair in _aliases(node)]
    sources: dict[str, list[str]] = {}
    for name, source in aliases:
        sources.setdefault(name, []).append(source)
    waiting = [name for name in found if name in sources]
    while waiting:
        name = waiting.pop()
        for source in sources.get(name, ()):
            if source not in found:
                found[source] = found[name]
                waiting.append(source)
    return found


def only_read(module: Module, name: str) -> bool:
    """Say whether the text of ``module`` shows that nothing changes what ``name`` holds.

    Then every mention of it is its definition, its import, ``**name``, or an argument ``packages=name`` and the like. A
    quick look that spares :func:`touched` for most files; when in doubt, the answer is no.
    """
    text = module.text
    if not name or not text.isascii():  # other letters may mean the same name
        return False
    at = text.find(name)
    while at >= 0:
        end = at + len(name)
        if not (_is_of_word(text[at - 1 : at]) or _is_of_word(text[end : end + 1])) and not _only_reads(text, at, end):
            return False
        at = text.find(name, end)
    return True


def _is_of_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _only_reads(text: str, at: int, end: int) -> bool:
    """Say whether the name at ``text[at:end]`` is surely not there to be changed."""
    start = text.rfind("\n", 0, at) + 1
    before, after = text[start:at], text[end : end + 3]
    if before.endswith(_ARGUMENTS) or (before.endswith("**") and not before.endswith("***")):
        return after[:1] in (",", ")", "}")
    if not before:
        return after.startswith((" = ", "=")) and not after.startswith("==")
    if before.startswith("from ") and " import " in before:
        line_end = text.find("\n", end)
        return not _IMPORT_OF_MORE.search(text, start, line_end if line_end >= 0 else len(text))
    return False


def rewritten(module: Module) -> int | None:
    """Return the line in which the names of ``module`` are changed without being named: ``globals()["A"] = …``."""
    if module.text.isascii() and not any(name in module.text for name in _NAMESPACE):
        return None
    for node in module.nodes(ast.Call, inside=False):
        if isinstance(node.func, ast.Name) and node.func.id in _NAMESPACE:
            return node.lineno
    return None


def _changed(node: ast.AST, *, inside: bool) -> Iterator[str]:
    match node:
        case ast.Assign(targets=targets) | ast.Delete(targets=targets):
            for target in targets:
                yield from _target(target, names=isinstance(node, ast.Delete) and not inside)
        case ast.AugAssign(target=target):
            yield from _target(target, names=not inside)
        case ast.AnnAssign(target=target):
            yield from _target(target, names=False)
        case ast.For(target=target) | ast.AsyncFor(target=target):
            yield from _target(target, names=not inside)
        case ast.withitem(optional_vars=ast.expr() as target):
            yield from _target(target, names=not inside)
        case ast.NamedExpr(target=ast.Name(id=name)) if not inside:
            yield name
        case ast.Global(names=names):
            yield from names
        case ast.Call():
            yield from _called(node, inside=inside)


def _target(target: ast.expr, *, names: bool) -> Iterator[str]:
    match target:
        case ast.Name(id=name):
            if names:
                yield name
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            for element in elements:
                yield from _target(element, names=names)
        case ast.Starred(value=value):
            yield from _target(value, names=names)
        case ast.Attribute():
            yield from _path(target)
        case ast.Subscript(value=value):
            yield from _path(value)


def _called(call: ast.Call, *, inside: bool) -> Iterator[str]:
    function = call.func
    if isinstance(function, ast.Attribute) and function.attr in _CHANGING:
        yield from _path(function.value)
    name = function.id if isinstance(function, ast.Name) else ""
    if inside or name in _READING:
        return
    for argument in call.args:
        yield from _path(argument.value if isinstance(argument, ast.Starred) else argument)


def _path(expression: ast.expr) -> Iterator[str]:
    """Yield the dotted name at the root of ``expression``: ``a.b`` of ``a.b["x"].c``."""
    parts: list[str] = []
    while True:
        match expression:
            case ast.Subscript(value=value) | ast.Call(func=value):
                parts = []
                expression = value
            case ast.Attribute(value=value, attr=name):
                parts.append(name)
                expression = value
            case ast.Name(id=name):
                yield ".".join([name, *reversed(parts)])
                return
            case _:
                return


def _aliases(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name | ast.Attribute | ast.Subscript):
        for target in node.targets:
            if isinstance(target, ast.Name | ast.Attribute):
                yield from ((name, source) for name in _path(target) for source in _path(node.value))
    if isinstance(node, ast.Assign) and len(node.targets) > 1:
        names = [name for target in node.targets for name in _path(target)]
        yield from pairwise(names)
        yield from pairwise(reversed(names))
