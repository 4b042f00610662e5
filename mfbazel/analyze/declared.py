"""The packages of a step as requirements on the Python index: those of its decorators, and those of its project."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from mfbazel.analyze.conda_names import conda_requirement
from mfbazel.analyze.errors import AnalyzeError
from mfbazel.analyze.model import Declared
from mfbazel.analyze.options import ReadOptions
from mfbazel.analyze.raw import Written
from mfbazel.analyze.requirements import Effective, requirement, split


def declared(packages: Effective[Written], options: ReadOptions, project: Iterable[Declared]) -> tuple[Declared, ...]:
    """Return the packages of one step, sorted by name.

    Args:
        packages: what its decorators say.
        options: ``conda_names`` of it is used.
        project: the dependencies of the project, which a decorator's package of the same name replaces. A step that is
            disabled has none.

    Raises:
        AnalyzeError: an entry is no requirement, or a conda package has no distribution. The entries of a disabled step
            that are none are left out instead, as nobody uses them.
    """
    found = list(_of_decorators(packages, options))
    named = {canonicalize_name(item.name.partition("[")[0]) for item in found}
    if not packages.disabled:
        found += [item for item in project if item.name.partition("[")[0] not in named]
    return tuple(sorted(found, key=lambda item: (item.name, item.specifier)))


def _of_decorators(packages: Effective[Written], options: ReadOptions) -> Iterator[Declared]:
    wrong = []
    for key, written in packages.packages.items():
        try:
            found = _entry(key, written, options)
        except AnalyzeError as error:
            remedy = "" if "conda_names" in str(error) else ". Correct the entry"
            wrong.append(f"{written.place}: @{written.decorator}: {str(error).rstrip('.')}{remedy}.")
            continue
        if found:
            yield found
    if wrong and not packages.disabled:
        raise AnalyzeError("\n".join(wrong))


def _entry(key: str, written: Written, options: ReadOptions) -> Declared | None:
    conda = None
    if written.decorator.startswith("conda"):
        mapped = conda_requirement(key, written.version, options.conda_names)
        if mapped is None:
            return None
        conda, parsed = mapped
        conda = None if conda == canonicalize_name(parsed.name) else conda
        name, specifier = split(parsed)
    else:
        name, specifier = _pip_entry(key, written.version)
    return Declared(name, specifier, written.decorator, written.place.file, written.place.line, conda)


@lru_cache(maxsize=8192)
def _pip_entry(key: str, version: str) -> tuple[str, str]:
    return split(_pip_requirement(key, version))


def _pip_requirement(key: str, version: str) -> Requirement:
    """Return what Metaflow gives to pip: a version that starts with a single ``=`` becomes ``===``."""
    text = version.strip()
    if text.startswith("=") and text[1:2] not in ("=", ">", "<", "!", "~") and "@" not in key:
        try:
            return Requirement(f"{key}=={text}")
        except InvalidRequirement as error:
            raise AnalyzeError(f'"{key}": "{version}" is not a requirement: {str(error).splitlines()[0]}') from error
    return requirement(key, version)
