"""Stand-ins for third-party packages, which are not there while a flow is read."""

from __future__ import annotations

import dis
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from .code import Code

OPEN, CLOSE = "⟨unknown: ", "⟩"
"""What a stub turns into as text: its dotted name between these."""

REAL = frozenset(
    {
        "metaflow", "metaflow_extensions",
        # what Metaflow needs itself, so every image and launcher has it
        "boto3", "botocore", "certifi", "charset_normalizer", "dateutil", "idna", "jmespath", "requests",
        "s3transfer", "six", "urllib3",
        # what mfbazel needs itself
        "packaging",
    }
)  # fmt: skip
"""Top-level names that first-party code gets as they are, where they are installed."""

ALIASES = {"yaml": "metaflow._vendor.yaml", "typing_extensions": "metaflow._vendor.typing_extensions"}
"""Top-level names that Metaflow carries a copy of."""


class StubbedBaseError(Exception):
    """A flow derives from a class of a package that is not there."""


class StubbedDecoratorError(Exception):
    """A decorator of a package that is not there stands on a flow, or above ``@step``: it could change anything."""


@dataclass
class Decisions:
    """Where first-party code took a stub for a truth value or a number, so that what it did next is a guess."""

    code: Code
    found: dict[tuple[str, int], str] = field(default_factory=dict)

    def note(self, name: str) -> None:
        """Remember the running line."""
        caller = self.code.caller()
        if caller and len(self.found) < 20:
            self.found.setdefault(caller[:2], name)


def _lacks(name: str) -> bool:
    """Say whether a stub lacks an attribute: Python's own names, and those by which Metaflow asks whether it is one of
    its steps, parameters or the like."""
    if name.startswith("__") and name.endswith("__"):
        return True
    return str(sys._getframe(2).f_globals.get("__name__", "")).startswith("metaflow.")


class Stub:
    """Anything that comes from a missing package: it has every attribute, and can be called, indexed and so on."""

    decisions: ClassVar[Decisions | None] = None
    _mfbazel_name: str
    _mfbazel_result: bool

    def __init__(self, name: str, *, result: bool = False) -> None:
        self.__dict__.update(_mfbazel_name=name, _mfbazel_result=result)

    def __getattr__(self, name: str) -> Any:
        if _lacks(name):
            raise AttributeError(f"{self._mfbazel_name} is not installed while the flow is read: no {name}")
        found = Stub(f"{self._mfbazel_name}.{name}")
        self.__dict__[name] = found
        return found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and not kwargs and isinstance(args[0], type | types.FunctionType):
            if _is_flow(args[0]) or hasattr(args[0], "is_step"):
                raise StubbedDecoratorError(self._mfbazel_name)
            return args[0]  # as a decorator
        return self._result("()")

    def _result(self, suffix: str) -> Stub:
        name = self._mfbazel_name
        return Stub(name if name.endswith("…") else f"{name}{suffix}" if len(name) < 120 else f"{name}…", result=True)

    def __getitem__(self, key: Any) -> Stub:
        return self._result("[…]")

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        if any(_is_flow(base) for base in bases):
            raise StubbedBaseError(self._mfbazel_name)
        known = self.__dict__.get("_mfbazel_class")
        if known is None:
            known = _StubClass(self._mfbazel_name.rpartition(".")[2], (StubInstance,), {"_mfbazel_of": self})
            self.__dict__["_mfbazel_class"] = known
        return (known,)

    def _decide(self, value: Any) -> Any:
        if self.decisions:
            self.decisions.note(self._mfbazel_name)
        return value

    def __bool__(self) -> bool:
        return bool(self._decide(not self._mfbazel_result))

    def __int__(self) -> int:
        return int(self._decide(0))

    def __index__(self) -> int:
        return int(self._decide(0))

    def __float__(self) -> float:
        return float(self._decide(0.0))

    def __len__(self) -> int:
        return int(self._decide(0))

    def __iter__(self) -> Iterator[Any]:
        """Yield one unknown element, or as many as the running code unpacks."""
        self._decide(None)
        return iter([self._result("[…]") for _ in range(_unpacked(sys._getframe(1)))])

    def __contains__(self, item: Any) -> bool:
        return bool(self._decide(False))

    def __str__(self) -> str:
        return f"{OPEN}{self._mfbazel_name}{CLOSE}"

    __repr__ = __str__
    __fspath__ = __str__

    def __format__(self, spec: str) -> str:
        return str(self)

    def __hash__(self) -> int:
        return hash(self._mfbazel_name)

    def __eq__(self, other: object) -> bool:
        return bool(self._decide(self is other))

    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__[name] = value

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def __delitem__(self, key: Any) -> None: ...

    def __enter__(self) -> Stub:
        return self._result("()")

    def __exit__(self, *args: object) -> None: ...

    async def __aenter__(self) -> Stub:
        return self._result("()")

    async def __aexit__(self, *args: object) -> None: ...

    def __instancecheck__(self, instance: Any) -> bool:
        return False

    def __subclasscheck__(self, subclass: type) -> bool:
        return False

    def __copy__(self) -> Stub:
        return self

    def __deepcopy__(self, memo: Any) -> Stub:
        return self


def _is_flow(value: Any) -> bool:
    flow = sys.modules.get("metaflow.flowspec")
    return bool(flow and isinstance(value, type) and issubclass(value, flow.FlowSpec))


def _unpacked(frame: types.FrameType) -> int:
    """Return how many names ``frame`` assigns to just now, as in ``a, b = …``; 1 where it does something else."""
    code, at = frame.f_code.co_code, frame.f_lasti
    return code[at + 1] if dis.opname[code[at]] == "UNPACK_SEQUENCE" else 1


def _unknown(self: Stub, *_: Any) -> Stub:
    return self._result("…")


def _unordered(self: Stub, _: Any) -> bool:
    return bool(self._decide(False))


_BINARY = ["add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "divmod", "pow", "lshift", "rshift"]
_BINARY += ["and", "xor", "or"]
for _name in (*_BINARY, *(f"r{_name}" for _name in _BINARY), *(f"i{_name}" for _name in _BINARY if _name != "divmod")):
    setattr(Stub, f"__{_name}__", _unknown)
for _name in ("neg", "pos", "abs", "invert", "round", "trunc", "floor", "ceil"):
    setattr(Stub, f"__{_name}__", _unknown)
for _name in ("lt", "le", "gt", "ge"):
    setattr(Stub, f"__{_name}__", _unordered)


class _StubClass(type):
    """The class of classes that derive from a stub: they have every attribute, too."""

    def __getattr__(cls, name: str) -> Any:
        if _lacks(name):
            raise AttributeError(name)
        return Stub(f"{cls.__name__}.{name}")


class StubInstance(metaclass=_StubClass):
    """What a first-party class derives from whose base is not there."""

    _mfbazel_of: ClassVar[Stub]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG004 - whatever the base would have taken
        cls._mfbazel_of._decide(None)
        return super().__new__(cls)

    def __init__(self, *_: Any, **kwargs: Any) -> None:
        """Keep the keyword arguments, as models of data do."""
        self.__dict__.update(kwargs)

    def __init_subclass__(cls, **kwargs: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        if _lacks(name):
            raise AttributeError(name)
        return Stub(f"{type(self).__name__}().{name}")


class StubModule(types.ModuleType):
    """A module of a missing package."""

    def __getattr__(self, name: str) -> Any:
        if name != "__version__" and _lacks(name):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} while the flow is read")
        found = Stub(f"{self.__name__}.{name}")
        self.__dict__[name] = found
        return found


@dataclass
class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Decides, before anybody else, what a top-level name is to first-party code.

    Standard library, first-party modules and :data:`REAL` are found as ever, :data:`ALIASES` are Metaflow's copies, and
    everything else is a stub, whether or not it happens to be installed here: the answer must not depend on that.
    A stub is not given where the code says that it does without (``except ImportError``).
    Code that is not first-party imports what it likes.
    """

    code: Code
    roots: Sequence[str]
    stubbed: set[str] = field(default_factory=set)
    _first_party: dict[str, bool] = field(default_factory=dict)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a stub or alias; ``None`` leaves the name to the finders that follow.

        Raises:
            ModuleNotFoundError: the name is not there, and the code that asks for it knows what to do.
        """
        del path, target
        top, dot, _ = fullname.partition(".")
        if dot:
            return self._spec(fullname) if top in self.stubbed else None
        frame = self.code.importer()
        if frame is None or not self._restricted(top):
            return None
        if not self.code.is_first_party(frame.f_code.co_filename):
            return None
        if top in ALIASES:
            return self._spec(top)
        if self.code.may_lack(frame.f_code.co_filename, frame.f_lineno):
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)
        self.stubbed.add(top)
        return self._spec(top)

    def _spec(self, fullname: str) -> importlib.machinery.ModuleSpec:
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def _restricted(self, top: str) -> bool:
        if top in sys.stdlib_module_names or top in REAL:
            return False
        if top not in self._first_party:
            self._first_party[top] = _is_first_party(top, self.roots)
        return not self._first_party[top]

    def hides(self, top: str) -> bool:
        """Say whether ``top`` is not there for the first-party code that asks."""
        frame = self.code.importer()
        asked = frame is not None and self.code.is_first_party(frame.f_code.co_filename)
        return asked and top not in ALIASES and self._restricted(top)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """Return the stub, or Metaflow's copy."""
        if spec.name in ALIASES and spec.name not in self.stubbed:
            return importlib.import_module(ALIASES[spec.name])
        return StubModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Do nothing: stubs have no code, and a copy was executed when it was imported."""


def _is_first_party(top: str, roots: Sequence[str]) -> bool:
    spec = importlib.machinery.PathFinder.find_spec(top, list(roots))
    if spec is None:
        return False
    if spec.origin:
        return True
    patterns = ("*.py", "*/*.py")
    found = (Path(place).glob(pattern) for place in spec.submodule_search_locations or () for pattern in patterns)
    return any(next(iter(matches), None) is not None for matches in found)


def install(code: Code, roots: Sequence[str]) -> Decisions:
    """Stub from now on; return where stubs decided."""
    Stub.decisions = Decisions(code)
    finder = Finder(code, [os.fspath(root) for root in roots])
    sys.meta_path.insert(0, finder)
    original = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> importlib.machinery.ModuleSpec | None:
        return None if finder.hides(name.partition(".")[0]) else original(name, package)

    importlib.util.find_spec = find_spec
    return Stub.decisions
