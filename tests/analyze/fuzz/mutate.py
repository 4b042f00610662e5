"""Changes inputs: as bytes, lines, tokens and trees, and with pieces of other inputs."""

from __future__ import annotations

import ast
import copy
import io
import tokenize
import warnings
from collections.abc import Callable, Sequence
from random import Random

_BYTES = (
    *(
        b"\0",
        b"\r",
        b"\r\n",
        b"\f",
        b"\t",
        b"\xef\xbb\xbf",
        b"\xff",
        b"\xe9",
        b"\\\n",
        b"\n\n",
        b"    ",
        b"#",
        b'"""',
        b"'",
    ),
    *(b"# coding: latin-1\n", b"# coding: utf-7\n", b"# coding: idna\n", b"\\ud800", b"\\N{x}", b"\xe2\x80\xa8", b":="),
    *(b"#### lib.py\n", b"#### shared.py\n", b"#### pkg/__init__.py\n", b"#### pkg/inner.py\n"),
)
_WORDS = """
    ( ) [ ] { } : , . ; @ = -> += := * ** ~ | == != < not and or in is lambda if else for while with try except finally
    raise return yield await async def class del global nonlocal import from as pass break match case type self inputs
    cls super() FlowSpec step pypi conda pypi_base conda_base batch kubernetes resources Config config_expr FlowMutator
    StepMutator IncludeFile Parameter next start end metaflow packages libraries python disabled image gpu cpu memory
    foreach num_parallel condition True False None ... 0 1 -1 1e999 1j 0xff b'' '' '\\ud800' __name__ '__main__'
    TYPE_CHECKING importlib.import_module __import__ typing sys.version_info lib shared pkg.inner 'numpy' '>=1' '==1.*'
    'pytorch::pytorch' 'a[b]' '=1.2' '1||2' '@git+https://h/r' 'a;os_name=="x"' '3.12' '3' 'x'*9**9
"""
_TOKENS = (
    *_WORDS.split(),
    f"0x{'f' * 5_000}",
    f"'{'9' * 5_000}'",
    f"'{'a' * 20_000}'",
    "'@ https://h/a.whl'",
    "'1 || 2'",
)
_EXPRESSIONS = (
    "{**{0}, **{0}}",
    "{0} | {0}",
    "{0} + {0}",
    "{0} * 99999999",
    "{0} % {0}",
    "{0} if {0} else {0}",
    "[{0} for x in {0}]",
    "{{x: {0} for x in {0}}}",
    "lambda: {0}",
    "lambda x={0}, *y, **z: {0}",
    "({0},)",
    "[{0}, *{0}]",
    "{{'a': {0}}}",
    "{0}['a']",
    "{0}.a",
    "{0}.join({0})",
    "{0}.format({0})",
    "{0}(*{0}, **{0})",
    "dict({0}, a={0})",
    "f'{{{0}}}'",
    "-{0}",
    "not {0}",
    "(x := {0})",
    "config_expr({0})",
    "Config('c', default={0})",
    "importlib.import_module({0})",
    "__import__({0})",
    "super().start({0})",
    "self.next({0})",
    "self.next(self.end, {0})",
    "self.next(self.end, foreach={0})",
    "self.next({{{0}: self.end}}, condition='x')",
    "...",
)
_STATEMENTS = (
    "if {0}:\n    pass",
    "if x:\n    pass\nelse:\n    pass",
    "for x in y:\n    pass",
    "while x:\n    pass",
    "with x as y:\n    pass",
    "try:\n    pass\nexcept ImportError:\n    pass",
    "def helper(self, *args, **kwargs):\n    pass",
    "async def helper(self):\n    pass",
    "class Inner(FlowSpec):\n    pass",
    "class Inner(Inner):\n    pass",
    "match x:\n    case {{'a': [y, *z]}}:\n        pass",
    "import a.b.c as d",
    "from . import x",
    "from .. import x",
    "from lib import *",
    "from pkg import inner",
    "from pkg.inner import value as start",
    "import lib, shared, pkg.inner",
    "x = {0}",
    "x = y = {0}",
    "x += {0}",
    "x['a'] = {0}",
    "del x",
    "global x",
    "x: int = {0}",
    "return {0}",
    "raise {0}",
    "self.next(self.start)",
    "@{0}\n@step\ndef start(self):\n    self.next(self.end)",
    "@step(start=True)\ndef s(self):\n    self.next(self.end)",
)
_NEST = (
    "({0})",
    "[{0}]",
    "-{0}",
    "{0}.a",
    "{0}()",
    "{0}[0]",
    "{0} + 1",
    "f({0})",
    "not {0}",
    "lambda: {0}",
    "{{1: {0}}}",
)
_LARGEST = 40_000
_NOT_NOW = (SyntaxError, ValueError, LookupError, AttributeError, RecursionError, MemoryError, tokenize.TokenError)
"""What a change raises that cannot be made in an input."""


def mutate(data: bytes, random: Random, corpus: Sequence[bytes]) -> bytes:
    """Return ``data`` with one to five changes; ``corpus`` has inputs to take pieces from."""
    for _ in range(random.choice((1, 1, 2, 3, 5))):
        change = random.choices(MUTATORS, _WEIGHTS)[0]
        try:
            data = change(data, random, corpus)
        except _NOT_NOW:
            data = change_bytes(data, random, corpus)
        data = data[:_LARGEST]
    return data


def change_bytes(data: bytes, random: Random, corpus: Sequence[bytes]) -> bytes:
    """Insert, remove, repeat or replace a few bytes."""
    start = random.randint(0, len(data))
    end = min(len(data), start + random.choice((0, 1, 2, 8, 40, 400)))
    piece = random.choice((random.choice(_BYTES), random.randbytes(random.randint(1, 4)), _piece(random, corpus)))
    match random.randrange(4):
        case 0:
            return data[:start] + piece + data[start:]
        case 1:
            return data[:start] + data[end:]
        case 2:
            return data[:start] + data[start:end] * random.choice((2, 3, 50)) + data[end:]
    return data[:start] + piece + data[end:]


def change_lines(data: bytes, random: Random, corpus: Sequence[bytes]) -> bytes:
    """Remove, repeat, move, indent or exchange lines."""
    lines = data.split(b"\n")
    start = random.randrange(len(lines))
    end = min(len(lines), start + random.choice((1, 1, 2, 5, 20)))
    block = lines[start:end]
    match random.randrange(6):
        case 0:
            block = []
        case 1:
            block *= random.choice((2, 2, 30))
        case 2:
            block = [b"    " + line for line in block]
        case 3:
            block = [line.removeprefix(b"    ") for line in block]
        case 4:
            block = random.choice(corpus).split(b"\n")[: random.randint(1, 30)] if corpus else block
        case 5:
            other = random.randint(0, len(lines))
            return b"\n".join([*lines[:other], *block, *lines[other:]])
    return b"\n".join([*lines[:start], *block, *lines[end:]])


def change_tokens(data: bytes, random: Random, corpus: Sequence[bytes]) -> bytes:  # noqa: ARG001
    """Remove, repeat, exchange or replace tokens."""
    tokens = [item.string for item in tokenize.generate_tokens(io.StringIO(data.decode()).readline)]
    text = data.decode()
    for _ in range(random.randint(1, 3)):
        found = random.choice([item for item in tokens if item.strip()] or [" "])
        positions = [at for at in range(len(text)) if text.startswith(found, at)]
        if not positions:
            continue
        at = random.choice(positions)
        new = random.choice(
            (random.choice(_TOKENS), random.choice(tokens), "", f"{found} {found}", found * random.choice((2, 200)))
        )
        text = text[:at] + new + text[at + len(found) :]
    return text.encode("utf-8", "surrogatepass")


def change_tree(data: bytes, random: Random, corpus: Sequence[bytes]) -> bytes:  # noqa: ARG001
    """Replace expressions and statements by others, or put them into others."""
    tree = _parse(data)
    for _ in range(random.randint(1, 3)):
        _change_node(tree, random)
    return _text(tree)


def graft(data: bytes, random: Random, corpus: Sequence[bytes]) -> bytes:
    """Put a statement of another input into a body of this one."""
    tree, other = _parse(data), _parse(random.choice(corpus) if corpus else data)
    statement = random.choice([node for node in ast.walk(other) if isinstance(node, ast.stmt)])
    body = random.choice(_bodies(tree))
    body.insert(random.randint(0, len(body)), statement)
    return _text(tree)


def change_decorators(data: bytes, random: Random, corpus: Sequence[bytes]) -> bytes:  # noqa: ARG001
    """Move, repeat, remove or add decorators and base classes."""
    tree = _parse(data)
    owners = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    decorators = [item for node in owners for item in node.decorator_list] or [ast.Name("step", ast.Load())]
    owner = random.choice(owners)
    match random.randrange(4):
        case 0:
            owner.decorator_list.insert(0, random.choice(decorators))
        case 1:
            owner.decorator_list.append(_expression(random, random.choice(decorators)))
        case 2:
            random.shuffle(owner.decorator_list)
            owner.decorator_list = owner.decorator_list[1:]
        case 3:
            classes = [node for node in owners if isinstance(node, ast.ClassDef)]
            random.choice(classes).bases.append(ast.Name(random.choice(classes).name, ast.Load()))
    return _text(tree)


def rename(data: bytes, random: Random, corpus: Sequence[bytes]) -> bytes:  # noqa: ARG001
    """Give a name to everything that has another one."""
    tree = _parse(data)
    names = sorted(
        {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | {"start", "end", "step", "self"}
    )
    old, new = random.choice(names), random.choice([*names, "pypi", "Config", "é", "x" * 300])
    for node in ast.walk(tree):
        for field in ("id", "name", "attr", "arg", "asname"):
            if getattr(node, field, None) == old and random.random() < 0.7:
                setattr(node, field, new)
    return _text(tree)


def add_module(data: bytes, random: Random, corpus: Sequence[bytes]) -> bytes:
    """Put a piece of an input into a module beside the flow, and import it."""
    name = random.choice(("lib", "shared", "pkg/__init__", "pkg/inner"))
    dotted = name.removesuffix("/__init__").replace("/", ".")
    wanted = random.choice((f"from {dotted} import *", f"import {dotted}", f"from {dotted} import Base, VERSIONS as x"))
    other = random.choice(corpus) if corpus else data
    return wanted.encode() + b"\n" + data + f"\n#### {name}.py\n".encode() + other


def _change_node(tree: ast.Module, random: Random) -> None:
    parents = [
        (node, name, index)
        for node in ast.walk(tree)
        for name, value in ast.iter_fields(node)
        for index in (range(len(value)) if isinstance(value, list) else (None,))
        if isinstance(value[index] if index is not None else value, ast.expr | ast.stmt)
    ]
    node, name, index = random.choice(parents)
    old = getattr(node, name) if index is None else getattr(node, name)[index]
    new: ast.AST
    if isinstance(old, ast.stmt):
        new = random.choice((_statement(random, old), copy.deepcopy(random.choice(_bodies(tree))[0])))
    else:
        others = [item for item in ast.walk(tree) if isinstance(item, ast.expr)]
        deep = random.choice((1, 1, 1, 2, 300))
        new = random.choice(
            (_expression(random, old), copy.deepcopy(random.choice(others)), _nested(random, old, deep))
        )
    if index is None:
        setattr(node, name, new)
    else:
        getattr(node, name)[index] = new


def _statement(random: Random, old: ast.stmt) -> ast.stmt:
    """Return a compound statement around ``old``, or a simple one."""
    new = ast.parse(random.choice(_STATEMENTS).replace("{0}", "x").replace("{{", "{").replace("}}", "}")).body[0]
    if isinstance(getattr(new, "body", None), list):
        new.body = [old]  # type: ignore[attr-defined]
    return new


def _expression(random: Random, old: ast.expr) -> ast.expr:
    text = random.choice(_EXPRESSIONS)
    return ast.parse(
        text.replace("{0}", f"({ast.unparse(old)})").replace("{{", "{").replace("}}", "}"), mode="eval"
    ).body


def _nested(random: Random, old: ast.expr, levels: int) -> ast.expr:
    text, around = ast.unparse(old), random.choice(_NEST)
    for _ in range(levels):
        text = around.replace("{0}", text).replace("{{", "{").replace("}}", "}")
    return ast.parse(text, mode="eval").body


def _bodies(tree: ast.Module) -> list[list[ast.stmt]]:
    found = [getattr(node, name, None) for node in ast.walk(tree) for name in ("body", "orelse", "finalbody")]
    return [body for body in found if isinstance(body, list) and body]


def _parse(data: bytes) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(data)


def _text(tree: ast.Module) -> bytes:
    return ast.unparse(ast.fix_missing_locations(tree)).encode("utf-8", "surrogatepass")


def _piece(random: Random, corpus: Sequence[bytes]) -> bytes:
    other = random.choice(corpus) if corpus else b""
    start = random.randint(0, len(other))
    return other[start : start + random.randint(1, 200)]


Mutator = Callable[[bytes, Random, Sequence[bytes]], bytes]
_WEIGHED: dict[Mutator, int] = {
    change_tree: 8,
    graft: 5,
    change_decorators: 4,
    change_tokens: 4,
    change_lines: 3,
    rename: 3,
    change_bytes: 2,
    add_module: 1,
}
MUTATORS = tuple(_WEIGHED)
"""All kinds of changes."""
_WEIGHTS = list(_WEIGHED.values())
