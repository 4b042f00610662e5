"""Starts the subprocess, and makes a flow of what it says."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mfbazel.analyze.dynamic import process
from mfbazel.analyze.dynamic.answer import Answer
from mfbazel.analyze.dynamic.places import Places
from mfbazel.analyze.dynamic.process import Ended, Outcome
from mfbazel.analyze.errors import DynamicError
from mfbazel.analyze.model import Reading
from mfbazel.analyze.options import ReadOptions
from mfbazel.analyze.raw import RawFlow
from mfbazel.analyze.source import Module, Sources

_MISSING_CONFIG = re.compile(r"missing configuration for '([^']*)'")
_UNREAD_CONFIG = re.compile(r"configuration file '([^']*)' could not be read for '([^']*)'")


def read_dynamic(module: Module, sources: Sources, options: ReadOptions, reason: str) -> RawFlow:
    """Read the flow in ``module`` by letting Metaflow load it in a sandboxed subprocess.

    Args:
        module: the flow's file.
        sources: where its first-party modules are.
        options: configurations and the time limit.
        reason: why it is read this way, for :class:`mfbazel.analyze.model.Reading`.

    Raises:
        DynamicError: the flow raised, took too long, or depends on what cannot be known.
    """
    roots = list(dict.fromkeys(root.absolute() for root in sources.roots))
    places = Places(module, sources, roots)
    ended = process.run(module.path.absolute(), roots, _config_arguments(options), options.timeout)
    if isinstance(ended, Ended):
        raise DynamicError(_silent(module, ended, options))
    if ended.error is not None:
        raise DynamicError(_failed(module, places, ended))
    if ended.spec is None:
        raise DynamicError(f"{module.shown}: Metaflow's answer cannot be read; please report this")
    return Answer(ended.spec, places).flow(Reading("dynamic", reason + _remarks(places, ended)))


def _config_arguments(options: ReadOptions) -> list[str]:
    files = [("--config", name, str(Path(file).absolute())) for name, file in sorted(options.configs.items())]
    values = [("--config-value", name, value) for name, value in sorted(options.config_values.items())]
    return [part for argument in (*files, *values) for part in argument]


def _remarks(places: Places, outcome: Outcome) -> str:
    """Say what the answer may depend on that is not so where the flow runs."""
    remarks = [
        f"it tried to {item['what']} ({_where(places, item)}, {item['detail']}), which was refused"
        for item in outcome.refusals[:3]
    ]
    remarks += [
        f"it decided on `{item['name']}`, which is not known here ({_where(places, item)})"
        for item in outcome.decisions[:3]
    ]
    return "".join(f"; {remark}" for remark in remarks)


def _where(places: Places, item: Mapping[str, Any]) -> str:
    return f"{places.shown(item['file'])}:{item['line']}"


def _silent(module: Module, ended: Ended, options: ReadOptions) -> str:
    """Say why the subprocess ended without an answer."""
    if ended.code is None or ended.code in (128 + signal.SIGXCPU, -signal.SIGXCPU):
        return (
            f"{module.shown}: loading the flow took longer than {options.timeout:g} seconds, and was stopped. Move "
            "what takes long from the top level of the file, mutators and Config parsers into steps."
            f"{_printed(ended.printed)}"
        )
    if ended.code in (128 + signal.SIGKILL, -signal.SIGKILL):
        return f"{module.shown}: reading the flow was killed, perhaps for want of memory.{_printed(ended.printed)}"
    if ended.code > 128 or ended.code < 0:
        number = ended.code - 128 if ended.code > 0 else -ended.code
        return f"{module.shown}: loading the flow crashed Python (signal {number}).{_printed(ended.printed)}"
    return (
        f"{module.shown}: the flow ended the process (exit code {ended.code}) while it was loaded: nothing but steps "
        f"may call `os._exit`.{_printed(ended.printed)}"
    )


def _failed(module: Module, places: Places, outcome: Outcome) -> str:
    error = outcome.error or {}
    place = _where(places, error) if error.get("file") and error.get("line") else module.shown
    message = str(error.get("message", "")).strip()
    match error["kind"]:
        case "metaflow-broken":
            return (
                f"{place}: Metaflow cannot be imported where the flow is read: {message}. Does a first-party module "
                "have the name of one that Metaflow imports?"
            )
        case "memory":
            return (
                f"{place}: loading the flow needs more than {process.MEMORY // 1024**3} GiB of memory: move what is "
                "large from the top level of the file into steps"
            )
        case "stubbed-base":
            return (
                f"{place}: the flow derives from `{error['base']}`, of a package that is not installed while the flow "
                "is read, so its steps cannot be known: define them here or in first-party code"
            )
        case "stubbed-decorator":
            package = str(error["base"]).partition(".")[0]
            return (
                f"{place}: the decorator `{error['base']}` could change packages, but `{package}` is not there while "
                f"the flow is read: if it is your own code, add its target to `deps` of metaflow_flow; a decorator "
                f"that only wraps the function belongs below @step"
            )
        case "not-started":
            return _not_started(module, error)
        case "exited":
            return (
                f"{place}: the flow ended the program ({message}) while it was loaded: call `sys.exit` in steps only"
                f"{_printed(outcome.printed)}"
            )
        case "refused":
            return _refused(places, place, outcome)
        case "metaflow":
            return _metaflow(place, message, outcome)
    inside = f" (in {error['inside']})" if error.get("inside") and not error.get("file") else ""
    return f"{place}: the flow raised while it was loaded: {message}{inside}. {_advice(error)}{_tried(places, outcome)}"


def _advice(error: Mapping[str, Any]) -> str:
    if error.get("type") in ("ImportError", "ModuleNotFoundError"):
        return "If that is your own code, add its target to `deps` of metaflow_flow."
    if not error.get("file"):
        return "Does a Config hold what the flow expects? See `configs` and `config_values` of metaflow_flow."
    return (
        "While a flow is read, third-party packages, network and the environment's variables are not there: let the "
        "file load without them, or move what needs them into a step."
    )


def _not_started(module: Module, error: Mapping[str, Any]) -> str:
    if error.get("base"):
        name, _, base = str(error["base"]).partition(" ")
        return (
            f"{module.shown}: class '{name}' derives from `{base.strip('()')}`, of a package that is not installed "
            "while the flow is read, so its steps cannot be known: define the flow in first-party code"
        )
    return (
        f'{module.shown}: the file starts no flow: end it with `if __name__ == "__main__":` and a call of the flow\'s '
        "class"
    )


def _refused(places: Places, place: str, outcome: Outcome) -> str:
    refusal = outcome.refusals[-1] if outcome.refusals else {"what": "do what reading must not do", "detail": ""}
    where = _where(places, refusal) if refusal.get("file") else place
    detail = f" ({refusal['detail']})" if refusal["detail"] else ""
    return (
        f"{where}: the flow tries to {refusal['what']} while it is loaded{detail}, which is not allowed while it is "
        "read: move it into a step"
    )


def _metaflow(place: str, message: str, outcome: Outcome) -> str:
    missing = _MISSING_CONFIG.findall(message)
    if missing:
        return _config(place, f"the Config '{missing[0]}' has no value and no default", missing[0])
    unread = _UNREAD_CONFIG.findall(message)
    if unread:
        file, name = unread[0]
        return _config(place, f"the file '{file}' of the Config '{name}' cannot be read", name)
    headline = (outcome.error or {}).get("headline")
    return f"{place}: Metaflow refuses the flow: {f'{headline}: ' if headline else ''}{message}"


def _config(place: str, what: str, name: str) -> str:
    return (
        f'{place}: {what}: give it with `configs = {{"{name}": "<file>"}}` or `config_values = {{"{name}": "<JSON>"}}` '
        f"of metaflow_flow (`--config {name}=<file>`, `--config-value {name}=<JSON>` of mfbazel.analyze)"
    )


def _tried(places: Places, outcome: Outcome) -> str:
    tried: Sequence[Mapping[str, Any]] = outcome.refusals[:3]
    return "".join(f" It also tried to {item['what']} ({_where(places, item)})." for item in tried)


def _printed(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()][-5:]
    return f" The last it printed: {' | '.join(line.strip()[:200] for line in lines)}" if lines else ""
