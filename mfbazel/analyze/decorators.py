"""Which decorators stand on steps and flows, and what they say about packages, images and hardware."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mfbazel.analyze.catalog import (
    EXTENSION_STEP_DECORATORS,
    FLOW_DECORATORS,
    HARDWARE,
    MUTATORS,
    READ,
    REPEATABLE,
    STEP,
    STEP_DECORATORS,
    TRANSPARENT,
    USER_STEP_DECORATORS,
)
from mfbazel.analyze.constants import Evaluator, Placed, in_line
from mfbazel.analyze.errors import AnalyzeError, NeedsRunningError
from mfbazel.analyze.hardware import ATTRIBUTES, amount, platform_of
from mfbazel.analyze.model import Place, Remote
from mfbazel.analyze.names import Found, Names, Scope
from mfbazel.analyze.raw import Written
from mfbazel.analyze.requirements import Attributes, is_disabled
from mfbazel.analyze.source import FunctionNode, ValueBinding, code_of

_DEEPEST = 50
_WRAPPING = ("functools.wraps", "functools.update_wrapper")


@dataclass(frozen=True)
class Decorator:
    """A decorator of ``metaflow`` on a step or a flow.

    Attributes:
        name: its name in ``metaflow``.
        node: its expression, where ``@name`` stands.
        call: the call with the arguments, ``None`` without one. It stands elsewhere (in ``scope``) where ``@common`` is
            written and ``common = pypi(…)`` is a constant.
    """

    name: str
    node: ast.expr
    place: Place
    call: ast.Call | None
    scope: Scope

    @property
    def shown(self) -> str:
        """The place of its call, for errors."""
        return self.scope.where(self.call) if self.call else str(self.place)


@dataclass(frozen=True)
class _Meant:
    """What the expression of a decorator means."""

    qualified: str
    call: ast.Call | None
    scope: Scope


@dataclass
class DecoratorReader:
    """Reads decorators. ``names`` finds what they are."""

    names: Names
    evaluator: Evaluator
    _kinds: dict[int, str] = field(default_factory=dict)

    def of_step(self, function: FunctionNode, scope: Scope) -> list[Decorator] | None:
        """Return the decorators above ``@step`` on ``function`` and ``@step`` itself; ``None`` when it is no step.

        Raises:
            AnalyzeError: Metaflow refuses one.
            NeedsRunningError: one is not Metaflow's, and may do anything to the step.
        """
        if not function.decorator_list:
            return None
        meant = [self._meant(node, scope) for node in function.decorator_list]
        first = next((index for index, item in enumerate(meant) if item.qualified in STEP), None)
        who = f"step '{function.name}'"
        pairs = list(zip(function.decorator_list, meant, strict=True))
        for node, item in pairs if first is None else pairs[first + 1 :]:
            self._check_below(node, item, scope, who, is_step=first is not None)
        if first is None:
            return None
        return list(self._known(pairs[: first + 1], scope, who, STEP_DECORATORS, EXTENSION_STEP_DECORATORS))

    def is_step(self, function: FunctionNode, scope: Scope) -> bool:
        """Say whether ``@step`` stands on ``function``."""
        return any(self._meant(node, scope).qualified in STEP for node in function.decorator_list)

    def of_flow(self, flow: ast.ClassDef, scope: Scope) -> list[Decorator]:
        """Return the decorators of the class ``flow``.

        Raises:
            AnalyzeError: Metaflow refuses one.
            NeedsRunningError: one is not Metaflow's, and may do anything to the flow.
        """
        pairs = [(node, self._meant(node, scope)) for node in flow.decorator_list]
        return list(self._known(pairs, scope, f"flow '{flow.name}'", FLOW_DECORATORS, frozenset()))

    def _meant(self, node: ast.expr, scope: Scope) -> _Meant:
        call = node if isinstance(node, ast.Call) else None
        qualified = self.names.qualified(call.func if call else node, scope) or ""
        if call is None and not qualified.startswith("metaflow."):
            found = self.names.definition(node, scope)
            binding = found.binding if found else None
            if found and isinstance(binding, ValueBinding) and binding.constant and isinstance(binding.value, ast.Call):
                inner = self.names.qualified(binding.value.func, found.scope) or ""
                if inner.startswith("metaflow."):
                    return _Meant(inner, binding.value, found.scope)
        return _Meant(qualified, call, scope)

    def _known(
        self,
        pairs: Sequence[tuple[ast.expr, _Meant]],
        scope: Scope,
        who: str,
        core: Mapping[str, str],
        extensions: frozenset[str],
    ) -> Iterator[Decorator]:
        seen: dict[str, Decorator] = {}
        for node, meant in pairs:
            name = _metaflow_name(meant.qualified)
            if name is None or (name not in core and name not in extensions and name != "step"):
                self._check_foreign(node, meant, scope, who)
                continue
            place = Place(scope.module.shown, node.lineno)
            decorator = Decorator(name, node, place, meant.call, meant.scope)
            if name in seen and name in core and name not in REPEATABLE:
                raise AnalyzeError(
                    f"{place}: {who} has @{name} twice (also in line {seen[name].place.line}), which Metaflow refuses: "
                    "keep one"
                )
            seen[name] = decorator
            self._check_arguments(decorator, core.get(name))
            yield decorator

    def _check_arguments(self, decorator: Decorator, attributes: str | None) -> None:
        """Refuse positional arguments; attributes that Metaflow 2.19 does not have only a newer one may know."""
        if decorator.call is None or (attributes is None and decorator.name != "step"):
            return
        if any(isinstance(argument, ast.Starred) for argument in decorator.call.args):
            raise _needs(decorator, f"`*` of @{decorator.name}", "holds arguments that only running can tell")
        if decorator.call.args:
            raise AnalyzeError(
                f"{decorator.shown}: @{decorator.name} takes keyword arguments only: write `@{decorator.name}(name=…)`"
            )
        known = (attributes or "start end node_info").split()
        for keyword in decorator.call.keywords:
            if keyword.arg is not None and keyword.arg not in known:
                raise _unknown_attribute(decorator, keyword.arg, known)

    def _check_below(self, node: ast.expr, meant: _Meant, scope: Scope, who: str, *, is_step: bool) -> None:
        """Check a decorator below ``@step``, or on a function without it, which sees the plain function."""
        name = _metaflow_name(meant.qualified)
        if name in STEP_DECORATORS or name in FLOW_DECORATORS:
            wrong = f"stands below @step on {who}" if is_step else f"stands on '{who[6:-1]}', which is no step"
            raise AnalyzeError(
                f"{scope.where(node)}: @{name} {wrong}, and Metaflow refuses it: write @step directly above `def`"
            )
        if is_step and name != "step":
            self._check_wrapper(node, meant, scope, who)

    def _check_wrapper(self, node: ast.expr, meant: _Meant, scope: Scope, who: str) -> None:
        """Refuse a first-party wrapper without ``functools.wraps``: Metaflow would read the wrapper's source."""
        found = self.names.defined(meant.qualified)
        if (
            found
            and isinstance(found.binding, FunctionNode)
            and not _keeps_source(found.binding, self.names, found.scope)
        ):
            raise _foreign(node, scope, who, "replaces the function that Metaflow would read")

    def _check_foreign(self, node: ast.expr, meant: _Meant, scope: Scope, who: str) -> None:
        """Check a decorator that is not Metaflow's own, or not one for this place."""
        name = _metaflow_name(meant.qualified)
        if name in STEP_DECORATORS or name in FLOW_DECORATORS:
            right = "a step" if name in STEP_DECORATORS else "the class of the flow"
            raise AnalyzeError(
                f"{scope.where(node)}: {who} has @{name}, which Metaflow takes on {right} only: move it there"
            )
        if meant.qualified in TRANSPARENT:
            return
        kind = self._ancestry(self.names.defined(meant.qualified), 0)
        if kind.endswith("Mutator"):
            raise NeedsRunningError(
                f"{scope.where(node)}: {who}: @{code_of(_callee(node))} is a {kind}, which changes decorators when "
                "the flow starts. Let the flow be read dynamically, or write @pypi or @conda out.",
                f"the {kind} @{code_of(_callee(node))} in {in_line(node, scope.module)}",
            )
        if kind != "in tasks":
            raise _foreign(node, scope, who, "is unknown and could change the packages of the step")

    def _ancestry(self, found: Found | None, depth: int) -> str:
        """Return the mutator that a first-party decorator is, ``in tasks`` when it acts there only, else nothing."""
        if found is None or depth > _DEEPEST:
            return ""
        identity = id(found.binding)
        if identity not in self._kinds:
            self._kinds[identity] = ""
            self._kinds[identity] = self._kind(found, depth)
        return self._kinds[identity]

    def _kind(self, found: Found, depth: int) -> str:
        binding = found.binding
        if isinstance(binding, FunctionNode):
            kinds = [self.names.qualified(_callee(node), found.scope) for node in binding.decorator_list]
            return "in tasks" if len(kinds) == 1 and kinds[0] in USER_STEP_DECORATORS else ""
        if not isinstance(binding, ast.ClassDef):
            return ""
        parents = [self._ancestor(base, found.scope, depth) for base in binding.bases]
        mutator = next((parent for parent in parents if parent.endswith("Mutator")), None)
        if mutator:
            return mutator
        return "in tasks" if parents and all(parents) and "in tasks" in parents else ""

    def _ancestor(self, base: ast.expr, scope: Scope, depth: int) -> str:
        qualified = self.names.qualified(base, scope) or ""
        if qualified in MUTATORS:
            return qualified.rpartition(".")[2]
        if qualified in USER_STEP_DECORATORS:
            return "in tasks"
        if qualified == "builtins.object":
            return "plain"
        return self._ancestry(self.names.defined(qualified), depth + 1)

    def step_flags(self, decorators: Sequence[Decorator]) -> tuple[bool, bool]:
        """Return ``start`` and ``end`` of ``@step(…)``."""
        step = next(item for item in decorators if item.name == "step")
        attributes = self._attributes(step, ("start", "end"))
        return tuple(bool(attributes[name].plain()) if name in attributes else False for name in ("start", "end"))  # type: ignore[return-value]

    def packages(self, decorator: Decorator) -> Attributes[Written]:
        """Read the attributes of @pypi, @conda, @pypi_base or @conda_base.

        Raises:
            NeedsRunningError: an attribute is not a literal or constant.
            AnalyzeError: it is of the wrong kind, or unknown.
        """
        values = self._attributes(decorator, ("libraries", "packages", "python", "disabled"))
        packages: dict[str, Written] = {}
        for name in ("libraries", "packages"):
            if name in values:
                packages.update(self._package_table(decorator, name, values[name]))
        disabled = values["disabled"].plain() if "disabled" in values else None
        python = self._python(decorator, values["python"]) if "python" in values else None
        return Attributes(packages, python, None if disabled is None else is_disabled(disabled))

    def _package_table(self, decorator: Decorator, attribute: str, table: Placed) -> Iterator[tuple[str, Written]]:
        if not isinstance(table.value, dict):
            raise AnalyzeError(
                f"{table.file}:{table.line}: `{attribute}` of @{decorator.name} is {_short(table)}, not a dict: write "
                f'`{attribute}={{"name": "version"}}`'
            )
        for key, placed in table.value.items():
            where = f"{placed.file}:{placed.line}: @{decorator.name}"
            if not isinstance(key, str):
                raise AnalyzeError(f"{where}: the key {key!r} is not text: write the name of a package")
            version = _version(decorator.name, placed.value)
            if version is None:
                raise AnalyzeError(
                    f'{where}: the version of "{key}" is {_short(placed)}, not text: write "{_short(placed)}"'
                )
            yield key, Written(version, decorator.name, Place(placed.file, placed.line))

    def _python(self, decorator: Decorator, placed: Placed) -> str | None:
        value = placed.value
        if not value:
            return None
        if decorator.name == "conda_base" and isinstance(value, int | float):
            return str(value)
        if not isinstance(value, str):
            raise AnalyzeError(
                f"{placed.file}:{placed.line}: @{decorator.name}: `python` is {_short(placed)}, not text: "
                f'write "{_short(placed)}"'
            )
        return value

    def remote(self, decorator: Decorator) -> Remote:
        """Read @batch or @kubernetes.

        Raises:
            NeedsRunningError: the image is not a literal or constant.
            AnalyzeError: it is no text.
        """
        image = self._attributes(decorator, ("image",)).get("image")
        if image is not None and image.value and not isinstance(image.value, str):
            raise AnalyzeError(f"{decorator.shown}: `image` of @{decorator.name} is {_short(image)}, not text")
        return Remote(decorator.name, image.value or None if image else None, decorator.place.line)

    def platform(self, decorator: Decorator) -> str | None:
        """Return the platform that @kubernetes selects, ``None`` for any.

        Raises:
            NeedsRunningError: ``node_selector`` is not a literal or constant.
            AnalyzeError: it is neither a dict nor text.
        """
        selector = self._attributes(decorator, ("node_selector",)).get("node_selector")
        try:
            return platform_of(selector.plain()) if selector else None
        except AnalyzeError as error:
            raise AnalyzeError(f"{decorator.shown}: @{decorator.name}: {error}") from error

    def hardware(self, decorator: Decorator) -> dict[str, Any]:
        """Return ``cpu``, ``memory`` and ``gpu`` of @resources, @batch or @kubernetes as they are written.

        Raises:
            NeedsRunningError: one is not a literal or constant.
            AnalyzeError: one is no number.
        """
        found: dict[str, Any] = {}
        for name, placed in self._attributes(decorator, ATTRIBUTES).items():
            try:
                amount(name, found.setdefault(name, placed.plain()))
            except AnalyzeError as error:
                raise AnalyzeError(f"{placed.file}:{placed.line}: @{decorator.name}: {error}") from error
        return found

    def _attributes(self, decorator: Decorator, wanted: Sequence[str]) -> dict[str, Placed]:
        """Return those of the ``wanted`` attributes that are given; ``**{…}`` and ``**CONSTANT`` are opened."""
        found: dict[str, Placed] = {}
        for keyword in decorator.call.keywords if decorator.call else ():
            if keyword.arg is None:
                opened = self._opened(decorator, keyword.value)
                found.update({name: value for name, value in opened.items() if name in wanted})
            elif keyword.arg in wanted:
                what = f"`{keyword.arg}` of @{decorator.name}"
                found[keyword.arg] = self.evaluator.value(keyword.value, decorator.scope, what)
        return found

    def _opened(self, decorator: Decorator, expression: ast.expr) -> dict[str, Placed]:
        what = f"`**` of @{decorator.name}"
        table = self.evaluator.value(expression, decorator.scope, what).value
        if not isinstance(table, dict):
            raise AnalyzeError(f"{decorator.shown}: {what} is `{code_of(expression)}`, not a dict")
        known = {**STEP_DECORATORS, **FLOW_DECORATORS}.get(decorator.name, "start end node_info").split()
        for name in table:
            if name not in known:
                raise _unknown_attribute(decorator, str(name), known)
        return table


def _metaflow_name(qualified: str) -> str | None:
    """Return ``name`` of ``metaflow.name``, ``None`` when it is no such name."""
    if qualified in STEP:
        return "step"
    head, _, name = qualified.rpartition(".")
    return name if head == "metaflow" else None


def _version(decorator: str, value: Any) -> str | None:
    """Return the version as text. Metaflow puts any number into a requirement of conda, but takes text only for pip."""
    if isinstance(value, str):
        return value
    return str(value) if decorator.startswith("conda") and type(value) in (int, float) else None


def _keeps_source(function: FunctionNode, names: Names, scope: Scope) -> bool:
    """Say whether a decorator returns its argument, or a wrapper that ``functools.wraps`` marks."""
    first = function.args.args[0].arg if function.args.args else None
    for node in ast.walk(function):
        if isinstance(node, ast.Name | ast.Attribute) and names.qualified(node, scope) in _WRAPPING:
            return True
    returned = [node.value for node in ast.walk(function) if isinstance(node, ast.Return)]
    return bool(returned) and all(isinstance(value, ast.Name) and value.id == first for value in returned)


def _unknown_attribute(decorator: Decorator, name: str, known: Sequence[str]) -> AnalyzeError:
    said = f"{decorator.shown}: @{decorator.name} has no attribute `{name}`; it has {', '.join(sorted(known))}"
    if (decorator.name in READ and decorator.name not in HARDWARE) or decorator.name == "step":
        return AnalyzeError(said)
    return NeedsRunningError(
        said, f"`{name}` of @{decorator.name} in {in_line(decorator.node, decorator.scope.module)}"
    )


def _needs(decorator: Decorator, what: str, why: str) -> NeedsRunningError:
    return NeedsRunningError(
        f"{decorator.shown}: {what} {why}. Write them out, or let the flow be read dynamically.",
        f"{what} in {in_line(decorator.node, decorator.scope.module)}",
    )


def _foreign(node: ast.expr, scope: Scope, who: str, why: str) -> NeedsRunningError:
    name = code_of(_callee(node))
    return NeedsRunningError(
        f"{scope.where(node)}: {who}: the decorator `@{name}` {why}. Let the flow be read dynamically, or write @pypi "
        "or @conda out on the step; a decorator that only wraps the function belongs below @step.",
        f"the decorator @{name} in {in_line(node, scope.module)}",
    )


def _callee(node: ast.expr) -> ast.expr:
    return node.func if isinstance(node, ast.Call) else node


def _short(placed: Placed) -> str:
    text = repr(placed.plain())
    return text if len(text) <= 60 else f"{text[:57]}..."
