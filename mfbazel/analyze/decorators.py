"""Which decorators stand on steps and flows, and what they say about packages, images and hardware."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mfbazel.analyze.constants import Evaluator, Placed
from mfbazel.analyze.errors import AnalyzeError
from mfbazel.analyze.model import Place, Remote
from mfbazel.analyze.raw import Written
from mfbazel.analyze.requirements import Attributes, requirement
from mfbazel.analyze.source import FunctionNode, Module, Sources

STEP_PACKAGES = ("pypi", "conda")
FLOW_PACKAGES = ("pypi_base", "conda_base")
REMOTES = ("batch", "kubernetes")
HARDWARE = (*REMOTES, "resources")

HARMLESS = frozenset(
    {
        # Metaflow's own, on steps
        *HARDWARE, "card", "catch", "environment", "parallel", "pytorch_parallel", "retry", "secrets", "timeout",
        "argo_workflows_internal", "step_functions_internal", "airflow_internal",
        # Metaflow's own, on flows
        "airflow_external_task_sensor", "airflow_s3_key_sensor", "exit_hook", "project", "schedule", "trigger",
        "trigger_on_finish",
        # of published extensions
        "checkpoint", "deepspeed", "gpu_profile", "huggingface_hub", "metaflow_ray", "model", "mpi", "nvct", "nvidia",
        "ray_parallel", "skypilot_step", "slurm", "snowpark", "tensorflow_parallel", "torchrun",
    }
)  # fmt: skip
"""Decorators of ``metaflow`` that cannot change what a step installs."""

_MUTATORS = ("metaflow.FlowMutator", "metaflow.StepMutator")
_USER_STEP = ("metaflow.UserStepDecorator", "metaflow.user_step_decorator")


@dataclass(frozen=True)
class Decorator:
    """A decorator of ``metaflow`` on a step or a flow. ``name`` is its name there; ``node`` its expression."""

    name: str
    node: ast.expr
    module: Module

    @property
    def line(self) -> int:
        """The line of the decorator."""
        return self.node.lineno

    @property
    def keywords(self) -> Sequence[ast.keyword]:
        """The keyword arguments, none without a call."""
        return self.node.keywords if isinstance(self.node, ast.Call) else ()


@dataclass
class DecoratorReader:
    """Reads decorators. ``sources`` finds what first-party decorators are."""

    sources: Sources
    evaluator: Evaluator

    def of_step(self, function: FunctionNode, module: Module) -> list[Decorator] | None:
        """Return the decorators above ``@step`` on ``function`` and ``@step`` itself; ``None`` when it is no step.

        Decorators below ``@step`` wrap the plain function and cannot reach Metaflow's decorators.

        Raises:
            AnalyzeError: one above is unknown and could change the step's packages.
        """
        names = [module.qualified(_callee(node)) for node in function.decorator_list]
        steps = [index for index, name in enumerate(names) if name in ("metaflow.step", "metaflow.decorators.step")]
        if not steps:
            return None
        above = function.decorator_list[: steps[0] + 1]
        return list(self._known(above, module, f"step '{function.name}'"))

    def of_flow(self, flow: ast.ClassDef, module: Module) -> list[Decorator]:
        """Return the decorators of the class ``flow``.

        Raises:
            AnalyzeError: one is unknown and could change packages.
        """
        return list(self._known(flow.decorator_list, module, f"flow '{flow.name}'"))

    def _known(self, nodes: Sequence[ast.expr], module: Module, who: str) -> Iterator[Decorator]:
        known = {*HARMLESS, *STEP_PACKAGES, *FLOW_PACKAGES, "step"}
        seen: dict[str, Decorator] = {}
        for node in nodes:
            qualified = module.qualified(_callee(node)) or ""
            name = qualified.rpartition(".")[2]
            if not qualified.startswith("metaflow.") or name not in known:
                if not self._runs_in_tasks(qualified):
                    raise self._unknown(node, qualified, module, who)
                continue
            decorator = Decorator(name, node, module)
            if name in seen and name in (*STEP_PACKAGES, *FLOW_PACKAGES, *REMOTES):
                raise AnalyzeError(
                    f"{module.where(node)}: {who} has @{name} twice (also in line {seen[name].line}), which "
                    f"Metaflow refuses: "
                    "keep one"
                )
            seen[name] = decorator
            yield decorator

    def _runs_in_tasks(self, qualified: str) -> bool:
        """Say whether a first-party decorator is a user step decorator, which acts while a task runs and not before."""
        found = self.sources.definition(qualified)
        if found is None:
            return False
        module, binding = found
        if isinstance(binding, ast.ClassDef):
            return any(module.qualified(base) in _USER_STEP for base in binding.bases)
        if isinstance(binding, FunctionNode):
            return any(module.qualified(_callee(node)) in _USER_STEP for node in binding.decorator_list)
        return False

    def _unknown(self, node: ast.expr, qualified: str, module: Module, who: str) -> AnalyzeError:
        shown = ast.unparse(_callee(node))
        found = self.sources.definition(qualified)
        kind = "is unknown and could change the packages of the step"
        if found and isinstance(found[1], ast.ClassDef):
            bases = [found[0].qualified(base) for base in found[1].bases]
            mutator = next((base.rpartition(".")[2] for base in bases if base in _MUTATORS), None)
            if mutator:
                kind = f"is a {mutator}, which changes decorators when the flow starts"
        return AnalyzeError(
            f"{module.where(node)}: {who}: the decorator `@{shown}` {kind}, so the packages cannot be read "
            f"from the source. "
            "Write @pypi or @conda out on the step; a decorator that only wraps the function belongs below @step."
        )

    def step_flags(self, decorators: Sequence[Decorator]) -> tuple[bool, bool]:
        """Return ``start`` and ``end`` of ``@step(…)``."""
        flags = {"start": False, "end": False}
        for decorator in decorators:
            if decorator.name == "step":
                for keyword in decorator.keywords:
                    if keyword.arg in flags:
                        what = f"`{keyword.arg}` of @step"
                        flags[keyword.arg] = bool(self.evaluator.value(keyword.value, decorator.module, what))
        return flags["start"], flags["end"]

    def packages(self, decorator: Decorator) -> Attributes[Written]:
        """Read the attributes of @pypi, @conda, @pypi_base or @conda_base.

        Raises:
            AnalyzeError: an attribute is not a literal or constant, or of the wrong kind, or unknown.
        """
        if isinstance(decorator.node, ast.Call) and decorator.node.args:
            place = decorator.module.where(decorator.node)
            raise AnalyzeError(f"{place}: @{decorator.name} takes keyword arguments only, as in `packages={{…}}`")
        values = self._keywords(decorator)
        python = disabled = None
        packages: dict[str, Written] = {}
        for name in ("libraries", "packages"):
            if name in values:
                packages.update(self._package_table(decorator, name, *values[name]))
        if "python" in values:
            python = self._python(decorator, *values["python"])
        if "disabled" in values:
            node, module = values["disabled"]
            value = self.evaluator.value(node, module, f"`disabled` of @{decorator.name}")
            disabled = None if value is None else str(value).lower() == "true"
        return Attributes(packages, python, disabled)

    def _keywords(self, decorator: Decorator) -> dict[str, tuple[ast.expr, Module]]:
        """Return the attributes; ``**{…}`` and ``**CONSTANT`` are opened."""
        allowed = {"packages", "python", "disabled"} | ({"libraries"} if decorator.name.startswith("conda") else set())
        found: dict[str, tuple[ast.expr, Module]] = {}
        for keyword in decorator.keywords:
            if keyword.arg is None:
                opened = self.evaluator.items(keyword.value, decorator.module, f"`**` of @{decorator.name}")
                found.update({name: (_node(placed), decorator.module) for name, placed in opened.items()})
            else:
                found[keyword.arg] = (keyword.value, decorator.module)
        unknown = sorted(set(found) - allowed)
        if unknown:
            place = decorator.module.where(decorator.node)
            raise AnalyzeError(
                f"{place}: @{decorator.name} has no attribute `{unknown[0]}`; it has {', '.join(sorted(allowed))}"
            )
        return found

    def _package_table(
        self, decorator: Decorator, attribute: str, node: ast.expr, module: Module
    ) -> Iterator[tuple[str, Written]]:
        for key, placed in self.evaluator.items(node, module, f"`{attribute}` of @{decorator.name}").items():
            if not isinstance(placed.value, str):
                raise AnalyzeError(
                    f'{placed.file}:{placed.line}: @{decorator.name}: the version of "{key}" is '
                    f"{placed.value!r}, not text: "
                    f'write "{placed.value}"'
                )
            try:
                requirement(key, placed.value)
            except AnalyzeError as error:
                raise AnalyzeError(
                    f"{placed.file}:{placed.line}: @{decorator.name}: {error}. Correct the entry."
                ) from error
            yield key, Written(placed.value, decorator.name, Place(placed.file, placed.line))

    def _python(self, decorator: Decorator, node: ast.expr, module: Module) -> str | None:
        value = self.evaluator.value(node, module, f"`python` of @{decorator.name}")
        if value is not None and not isinstance(value, str):
            raise AnalyzeError(
                f'{module.where(node)}: @{decorator.name}: `python` is {value!r}, not text: write "{value}"'
            )
        return value or None

    def remote(self, decorator: Decorator) -> Remote:
        """Read @batch or @kubernetes."""
        image = None
        for keyword in decorator.keywords:
            if keyword.arg is None:
                raise AnalyzeError(
                    f"{decorator.module.where(decorator.node)}: @{decorator.name} takes "
                    f"`**{ast.unparse(keyword.value)}`, which "
                    "may name an image: write the attributes out"
                )
            if keyword.arg == "image":
                image = _text(keyword.value)
        return Remote(decorator.name, image, decorator.line)

    def gpu(self, decorator: Decorator) -> int:
        """Return the number of GPUs that @resources, @batch or @kubernetes asks for.

        Raises:
            AnalyzeError: it is not a literal or constant number.
        """
        for keyword in decorator.keywords:
            if keyword.arg == "gpu":
                what = f"`gpu` of @{decorator.name}"
                value = self.evaluator.value(keyword.value, decorator.module, what)
                try:
                    return int(value or 0)
                except (TypeError, ValueError):
                    raise AnalyzeError(
                        f"{decorator.module.where(keyword.value)}: {what} is {value!r}, not a number"
                    ) from None
        return 0


def _callee(node: ast.expr) -> ast.expr:
    return node.func if isinstance(node, ast.Call) else node


def _text(node: ast.expr) -> str | None:
    """Return a literal's text, or the expression as it stands in the source."""
    if isinstance(node, ast.Constant):
        return None if node.value is None else str(node.value)
    return ast.unparse(node)


def _node(placed: Placed) -> ast.expr:
    """Return a literal of ``placed`` at its line."""
    node = _literal(placed.value)
    for part in ast.walk(node):
        part.lineno = placed.line  # type: ignore[attr-defined]
        part.col_offset = 0  # type: ignore[attr-defined]
    return node


def _literal(value: Any) -> ast.expr:
    return ast.parse(repr(value), mode="eval").body
