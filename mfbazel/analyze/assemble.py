"""From what a reader found to the flow spec: requirements, their order, and what the steps import."""

from __future__ import annotations

from mfbazel.analyze.declared import declared
from mfbazel.analyze.errors import AnalyzeError
from mfbazel.analyze.graph import topological
from mfbazel.analyze.imports import read_imports
from mfbazel.analyze.model import FlowSpec, Inferred, Step
from mfbazel.analyze.options import ReadOptions
from mfbazel.analyze.project import Project, read_project
from mfbazel.analyze.raw import RawFlow, RawStep
from mfbazel.analyze.requirements import effective
from mfbazel.analyze.source import Module, Sources


def assemble(raw: RawFlow, module: Module, sources: Sources, options: ReadOptions) -> FlowSpec:
    """Return the flow spec of ``raw``, which was read from ``module``.

    Raises:
        AnalyzeError: a package is no requirement, a step has packages from @pypi and from @conda, or the project's
            dependencies cannot be read.
    """
    inferred = read_imports(raw, module, sources, options)
    steps = {step.name: step for step in raw.steps}
    project = read_project(options.project) if options.project else None
    ordered = topological(raw.start, {step.name: step.next for step in raw.steps})
    found = tuple(_step(steps[name], inferred[name], options, project) for name in ordered)
    return FlowSpec(raw.name, raw.source, found, raw.reading)


def _step(raw: RawStep, inferred: tuple[Inferred, ...], options: ReadOptions, project: Project | None) -> Step:
    try:
        packages = effective(raw.pypi, raw.conda)
    except AnalyzeError as error:
        raise AnalyzeError(f"{raw.place}: step '{raw.name}': {error}") from error
    if project and not packages.disabled:
        project.check_python(packages.python or options.python, raw.name)
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
        declared=declared(packages, options, project.declared if project else ()),
        inferred=inferred,
        remote=raw.remote,
        requirements=tuple(sorted((name, item.version) for name, item in packages.packages.items())),
    )
