"""Remembers where each decorator was put on a step or a flow."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from .code import Code

_MUTATING = ("pre_mutate", "mutate")


def watch(code: Code) -> None:
    """Give every decorator that Metaflow makes from now on the attribute ``mfbazel_origin``.

    It is a dictionary of ``module`` (the dotted name, ``__main__`` for the flow's file), ``file`` and ``line`` of the
    first-party code that put the decorator there, or of the mutator's own decorator where a mutator put it there
    (``mutator`` is true); ``None`` where neither did. ``mfbazel_given`` has the attributes that were given, before
    Metaflow fills in others.
    """
    from metaflow.decorators import Decorator
    from metaflow.user_decorators.user_flow_decorator import FlowMutator
    from metaflow.user_decorators.user_step_decorator import UserStepDecoratorBase

    for kind in (Decorator, FlowMutator, UserStepDecoratorBase):
        _wrap(kind, "__init__", _after_init(code, (FlowMutator, UserStepDecoratorBase)))
    _wrap(Decorator, "external_init", _before_external_init)


def _wrap(kind: Any, name: str, around: Callable[[Callable[..., Any], Any, Any, Any], Any]) -> None:
    original = getattr(kind, name)

    @functools.wraps(original)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        return around(original, self, args, kwargs)

    setattr(kind, name, wrapped)


def _after_init(code: Code, mutators: tuple[type, ...]) -> Callable[[Callable[..., Any], Any, Any, Any], Any]:
    def around(original: Callable[..., Any], self: Any, args: Any, kwargs: Any) -> Any:
        # The first to record is the outermost of a chain of `super().__init__`.
        if "mfbazel_origin" not in self.__dict__:
            self.mfbazel_origin = _origin(code, sys._getframe(2), mutators)
        return original(self, *args, **kwargs)

    return around


def _before_external_init(original: Callable[..., Any], self: Any, args: Any, kwargs: Any) -> Any:
    if not self._ran_init:
        # Metaflow raises again, and says where, what goes wrong here.
        with contextlib.suppress(Exception):
            self.mfbazel_given = _given(self)
    return original(self, *args, **kwargs)


def _given(decorator: Any) -> dict[str, Any]:
    """Return the attributes that ``decorator`` was given, evaluated, as ``external_init`` sees them before ``init``."""
    from metaflow.user_configs.config_parameters import resolve_delayed_evaluator, unpack_delayed_evaluator

    attributes, unpacked = unpack_delayed_evaluator(dict(decorator.attributes))
    given = decorator._user_defined_attributes | set(unpacked)
    # What a mutator gives beside the text of a decorator is in no list of Metaflow's.
    given |= {name for name, value in attributes.items() if value is not decorator.defaults.get(name)}
    evaluated = resolve_delayed_evaluator(attributes, to_dict=True)
    return {name: evaluated[name] for name in given if name in evaluated}


def _origin(code: Code, frame: FrameType | None, mutators: tuple[type, ...]) -> dict[str, Any] | None:
    walked = frame
    while walked is not None:
        if walked.f_code.co_name in _MUTATING and walked.f_code.co_varnames:
            owner = walked.f_locals.get(walked.f_code.co_varnames[0])
            if isinstance(owner, mutators):
                origin = getattr(owner, "mfbazel_origin", None)
                return {**origin, "mutator": True} if origin else None
        walked = walked.f_back
    caller = code.caller()
    if caller is None:
        return None
    file, line, module = caller
    return {"module": module, "file": file, "line": line, "mutator": False}
