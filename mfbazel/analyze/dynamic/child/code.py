"""Whose code is running: the flow's and its first-party modules', or anybody else's."""

from __future__ import annotations

import ast
import os
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType, TracebackType

_OWN = __name__.rpartition(".")[0]
_OPTIONAL = ("ImportError", "ModuleNotFoundError", "Exception", "BaseException")


@dataclass
class Code:
    """Tells first-party files from others.

    Attributes:
        roots: absolute directories of first-party code.
        others: absolute directories of other code; the most specific directory decides.
    """

    roots: Sequence[str]
    others: Sequence[str] = ()
    _known: dict[str, bool] = field(default_factory=dict)
    _optional: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        paths = sysconfig.get_paths()
        self.others = [*self.others, paths["stdlib"], paths["platstdlib"], os.path.dirname(__file__)]  # noqa: PTH120

    def is_first_party(self, file: str) -> bool:
        """Say whether the code in ``file`` is first-party."""
        if file not in self._known:
            inside, outside = (_longest(file, where) for where in (self.roots, self.others))
            self._known[file] = inside > 0 and inside >= outside
        return self._known[file]

    def caller(self) -> tuple[str, int, str] | None:
        """Return file, line and module of the innermost first-party code that is running, ``None`` where Metaflow's
        command line is what runs."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_globals.get("__name__") != "metaflow.cli":
            if self.is_first_party(frame.f_code.co_filename):
                return frame.f_code.co_filename, frame.f_lineno, str(frame.f_globals.get("__name__"))
            frame = frame.f_back
        return None

    def innermost(self, traceback: TracebackType | None) -> tuple[str, int] | None:
        """Return file and line of the innermost first-party code that ``traceback`` passes."""
        found = None
        while traceback is not None:
            file = traceback.tb_frame.f_code.co_filename
            if self.is_first_party(file):
                found = (file, traceback.tb_lineno)
            traceback = traceback.tb_next
        return found

    def importer(self) -> FrameType | None:
        """Return the frame whose ``import`` is being carried out."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and _imports(frame):
            frame = frame.f_back
        return frame

    def may_lack(self, file: str, line: int) -> bool:
        """Say whether the code at ``line`` goes on without what it imports: ``try`` with an ``except ImportError`` that
        neither raises nor exits."""
        if file not in self._optional:
            self._optional[file] = list(_optional_ranges(file))
        return any(first <= line <= last for first, last in self._optional[file])


def _longest(file: str, directories: Sequence[str]) -> int:
    return max((len(item) for item in directories if file.startswith(item.rstrip(os.sep) + os.sep)), default=0)


def _imports(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    return name.startswith("importlib") or name == _OWN or name.startswith(f"{_OWN}.")


def _optional_ranges(file: str) -> Iterator[tuple[int, int]]:
    try:
        with open(file, "rb") as opened:  # noqa: PTH123
            tree = ast.parse(opened.read())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and any(_goes_on(handler) for handler in node.handlers):
            yield node.body[0].lineno, node.body[-1].end_lineno or node.body[-1].lineno


def _goes_on(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    catches = any(kind is None or ast.unparse(kind).rpartition(".")[2] in _OPTIONAL for kind in kinds)
    ends = ("exit", "sys.exit", "quit", "os._exit")
    return catches and not any(
        isinstance(node, ast.Raise) or (isinstance(node, ast.Call) and ast.unparse(node.func) in ends)
        for node in ast.walk(handler)
    )
