"""Reads the flow, and writes down what came of it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
import types
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import isolate, origins, stubs
from .code import Code
from .guard import Guard, Refused

OUTCOME = "outcome.json"
SPEC = "flow-spec.json"
"""Names of the files that are written to the directory of the request."""


class _NotStartedError(Exception):
    """The flow's file ran to its end and started no flow."""


@dataclass
class _Watch:
    """What Metaflow told the person at the command line."""

    error: BaseException | None = None
    started: list[str] = field(default_factory=list)


def main(request: Path) -> None:
    """Read the flow as the JSON file ``request`` says, and end the process.

    The request has ``flow`` (absolute file), ``roots`` (absolute directories of first-party code, the flow's own
    first), ``path`` (the import path that has Metaflow), ``installed`` (what of it is not first-party), ``arguments``
    (of Metaflow, before the command), ``parent`` (the process that waits), ``timeout`` (seconds), ``memory`` (bytes)
    and ``namespaces`` (whether to use the kernel's). Beside it are written :data:`SPEC`, by Metaflow, and
    :data:`OUTCOME`: ``error``, ``None`` where the flow was read, else with ``kind`` and what :func:`_said` adds;
    ``refusals``; and ``decisions``, where the value of a stub decided.
    """
    asked = json.loads(request.read_text(encoding="utf-8"))
    isolated = asked["namespaces"] and isolate.leave_network()
    isolate.end_with_parent(asked["parent"])
    isolate.limit(asked["timeout"], asked["memory"])
    if isolated:
        isolate.in_own_processes()
    directory = request.parent
    code = Code(asked["roots"], asked["installed"])
    guard = Guard(code, os.path.realpath(directory))
    guard.install()
    error: dict[str, Any] | None
    decisions = stubs.Decisions(code)
    try:
        sys.path[:] = [*asked["roots"], *asked["path"]]
        try:
            watch = _watch_metaflow(code)
        except Exception as broken:  # a first-party module of the name of one that Metaflow imports can raise anything
            place = _place(broken, code)
            error = {"kind": "metaflow-broken", "message": _text(broken)}
            error.update(dict(zip(("file", "line"), place or (None, None), strict=True)))
        else:
            decisions = stubs.install(code, asked["roots"])
            error = _read(asked, code, watch, directory / SPEC)
    except MemoryError:
        error = {"kind": "memory"}
    _leave(directory, {"error": error, "refusals": guard.refusals, "decisions": decisions.found})


def _watch_metaflow(code: Code) -> _Watch:
    """Import Metaflow, and have it tell what it would print."""
    from metaflow import FlowSpec, parameters
    from metaflow._vendor import click

    watch = _Watch()

    def said(error: BaseException, *_: Any) -> None:
        watch.error = error

    original = FlowSpec.__init__

    def started(self: Any, use_cli: bool = True) -> None:
        if use_cli:
            watch.started.append(type(self).__name__)
            # Metaflow's command line takes its options from the flow that starts it first: not to be imported earlier.
            with parameters.flow_context(type(self)):
                import metaflow.cli

            metaflow.cli.print_metaflow_exception = said
            metaflow.cli.print_unknown_exception = said
        original(self, use_cli)

    FlowSpec.__init__ = started
    click.ClickException.show = said
    click.UsageError.show = said
    origins.watch(code)
    return watch


def _read(asked: dict[str, Any], code: Code, watch: _Watch, spec: Path) -> dict[str, Any] | None:
    sys.argv = [asked["flow"], *asked["arguments"], "flow-spec", "--output", str(spec)]
    module = types.ModuleType("__main__")
    module.__file__ = asked["flow"]
    sys.modules["__main__"] = module
    try:
        with open(asked["flow"], "rb") as file:  # noqa: PTH123
            source = file.read()
        exec(compile(source, asked["flow"], "exec", dont_inherit=True), module.__dict__)  # the flow, run on purpose
        raise _NotStartedError
    except BaseException as error:
        if spec.is_file():
            return None
        return _said(watch.error or error, code, watch, module)


def _said(error: BaseException, code: Code, watch: _Watch, module: types.ModuleType) -> dict[str, Any]:
    """Return what the parent needs to say what went wrong."""
    place = _place(error, code)
    chain = list(_chain(error))
    result: dict[str, Any] = {
        "kind": "raised",
        "type": type(error).__name__,
        "message": _text(error),
        "file": place[0] if place else None,
        "line": place[1] if place else None,
        "inside": _inside(error),
    }
    refused = next((item for item in chain if isinstance(item, Refused)), None)
    stubbed = next((item for item in chain if isinstance(item, stubs.StubbedBaseError)), None)
    decorator = next((item for item in chain if isinstance(item, stubs.StubbedDecoratorError)), None)
    if isinstance(error, MemoryError):
        result["kind"] = "memory"
    elif decorator:
        result.update(kind="stubbed-decorator", base=str(decorator))
    elif stubbed:
        result.update(kind="stubbed-base", base=str(stubbed))
    elif refused:
        result["kind"] = "refused"
    elif isinstance(error, _NotStartedError):
        result.update(kind="not-started", base=_stubbed_flow(module))
    elif isinstance(error, SystemExit):
        result.update(kind="exited", started=bool(watch.started))
    elif _is_metaflow(error):
        result.update(kind="metaflow", headline=getattr(error, "headline", None))
        result["line"] = getattr(error, "line_no", None) or result["line"]
        result["file"] = getattr(error, "source_file", None) or result["file"]
    return result


def _is_metaflow(error: BaseException) -> bool:
    from metaflow._vendor import click
    from metaflow.exception import MetaflowException

    return isinstance(error, MetaflowException | click.ClickException)


def _place(error: BaseException, code: Code) -> tuple[str, int] | None:
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return error.filename, error.lineno
    return next((place for item in _chain(error) if (place := code.innermost(item.__traceback__))), None)


def _inside(error: BaseException) -> str | None:
    """Return the innermost code that raised, as ``module:line``."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return None
    return f"{traceback.tb_frame.f_globals.get('__name__')}:{traceback.tb_lineno}"


def _chain(error: BaseException | None) -> Any:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _text(error: BaseException) -> str:
    """Return the message of ``error``, bounded."""
    try:
        text = getattr(error, "message", None) or "".join(traceback.format_exception_only(error)).strip()
        return str(text)[:2000]
    except Exception:  # an exception of the flow's own that cannot be shown
        return type(error).__name__


def _stubbed_flow(module: types.ModuleType) -> str | None:
    """Return a class of the flow's file that derives from a stub, and the stub's name."""
    for name, value in vars(module).items():
        if isinstance(value, type) and issubclass(value, stubs.StubInstance) and hasattr(value, "_mfbazel_of"):
            return f"{name} ({value._mfbazel_of._mfbazel_name})"
    return None


def _leave(directory: Path, outcome: dict[str, Any]) -> None:
    """Write the outcome and end the process at once: nothing of the flow's is to run any more."""
    outcome["refusals"] = [asdict(item) for item in outcome["refusals"]]
    outcome["decisions"] = [
        {"file": file, "line": line, "name": name} for (file, line), name in outcome["decisions"].items()
    ]
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    with contextlib.suppress(Exception):
        sys.stderr.flush()
    beside = directory / f"{OUTCOME}.tmp"
    beside.write_text(json.dumps(outcome), encoding="utf-8")
    beside.replace(directory / OUTCOME)
    os._exit(0)
