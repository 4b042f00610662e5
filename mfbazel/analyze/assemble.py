"""From what a reader found to the flow spec: requirements, their order, and what the steps import."""

from __future__ import annotations

from mfbazel.analyze.errors import AnalyzeError
from mfbazel.analyze.graph import topological
from mfbazel.analyze.imports import read_imports
from mfbazel.analyze.model import Declared, FlowSpec, Inferred, Step
from mfbazel.analyze.options import ReadOptions
from mfbazel.analyze.raw import RawFlow, RawStep, Written
from mfbazel.analyze.requirements import Effective, effective, requirement, split
from mfbazel.analyze.source import Module, Sources


def assemble(raw: RawFlow, module: Module, sources: Sources, options: ReadOptions) -> FlowSpec:
    """Return the flow spec of ``raw``, which was read from ``module``.

    Raises:
        AnalyzeError: a package is no requirement, or a step has packages from @pypi and from @conda.
    """
    inferred = read_imports(raw, module, sources, options)
    steps = {step.name: step for step in raw.steps}
    ordered = topological(raw.start, {step.name: step.next for step in raw.steps})
    return FlowSpec(
        raw.name, raw.source, tuple(_step(steps[name], inferred[name], options) for name in ordered), raw.reading
    )


def _step(raw: RawStep, inferred: tuple[Inferred, ...], options: ReadOptions) -> Step:
    try:
        packages = effective(raw.pypi, raw.conda)
    except AnalyzeError as error:
        raise AnalyzeError(f"{raw.place}: step '{raw.name}': {error}") from error
    return Step(
        name=raw.name,
        type=raw.type,
        next=raw.next,
        file=raw.place.file,
        line=raw.place.line,
        decorators=raw.decorators,
        disabled=packages.disabled,
        python=packages.python,
        requests=raw.requests,
        platform=raw.platform,
        declared=_declared(packages, options),
        inferred=inferred,
        remote=raw.remote,
        requirements=tuple(sorted((name, item.version) for name, item in packages.packages.items())),
    )


def _declared(packages: Effective[Written], options: ReadOptions) -> tuple[Declared, ...]:  # noqa: ARG001
    found = []
    for key, written in packages.packages.items():
        try:
            name, specifier = split(requirement(key, written.version))
        except AnalyzeError as error:
            raise AnalyzeError(f"{written.place}: @{written.decorator}: {error}. Correct the entry.") from error
        found.append(Declared(name, specifier, written.decorator, written.place.file, written.place.line))
    return tuple(sorted(found, key=lambda item: item.name))
