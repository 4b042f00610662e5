"""The Python distribution of a conda package, and its version as PEP 440 writes it.

The first that knows a name says what it is:

1. ``conda_names`` of the flow (:class:`mfbazel.analyze.options.ReadOptions`),
2. our own table, :mod:`mfbazel.analyze.conda_table`,
3. the mapping in the wheel ``conda-pypi``, which is data to us: nothing of it is imported,
4. conda-forge's rule for everything else: a Python package has the name that it has on the Python index.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from mfbazel.analyze.conda_table import CANDIDATES, DISTRIBUTIONS, NO_DISTRIBUTION, NO_DISTRIBUTION_PATTERNS
from mfbazel.analyze.errors import AnalyzeError

_MAPPING = ("conda_pypi", "grayskull_pypi_mapping.json")
_HEXADECIMAL = re.compile(r"[0-9a-f]{40,}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_CLAUSE = re.compile(r"(?P<operator>[<>=!~]{0,3})\s*(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*?)(?P<any>\.\*)?")


def conda_requirement(key: str, version: str, names: Mapping[str, str]) -> tuple[str, Requirement] | None:
    """Return the conda name and the requirement on the Python index that an entry of @conda means.

    Args:
        key: as written: a name, perhaps with a channel (``pytorch::pytorch``).
        version: as written, in conda's forms.
        names: the flow's own ``conda_names``; an empty value leaves the package out.

    Returns:
        The conda name (canonical, without channel) and the requirement; ``None`` when the package is left out.

    Raises:
        AnalyzeError: there is no distribution, or several, or the version has no counterpart.
    """
    name = key.rpartition("::")[2].strip()
    bare, bracket, extras = name.partition("[")
    if not _NAME.fullmatch(bare):
        raise AnalyzeError(f'"{key}" is not the name of a conda package')
    conda = _canonical(bare)
    found = distribution(conda, names)
    if found is None:
        return None
    text = f"{found}{bracket}{extras}{conda_specifier(version)}"
    try:
        return conda, _parsed(text)
    except InvalidRequirement as error:
        raise AnalyzeError(f'"{key}": "{found}" is not a requirement: {str(error).splitlines()[0]}') from error


@lru_cache(maxsize=8192)
def _parsed(text: str) -> Requirement:
    return Requirement(text)


def distribution(conda: str, names: Mapping[str, str]) -> str | None:
    """Return the distribution of the canonical conda name ``conda``; ``None`` when ``names`` leaves it out.

    Raises:
        AnalyzeError: there is none, or there are several.
    """
    own: dict[str, str] = {_canonical(name): value for name, value in names.items()}
    if conda in own:
        return own[conda] or None
    if conda in DISTRIBUTIONS:
        return DISTRIBUTIONS[conda]
    if conda in NO_DISTRIBUTION:
        raise _none(conda, NO_DISTRIBUTION[conda])
    mapped = CANDIDATES.get(conda) or _mapping().get(conda, ())
    if len(mapped) > 1:
        raise AnalyzeError(
            f'the conda package "{conda}" may be any of {" and ".join(mapped)} on the Python index: choose with '
            f'`conda_names = {{"{conda}": "{mapped[0]}"}}` of metaflow_flow'
        )
    if mapped:
        return mapped[0]
    for pattern, why in NO_DISTRIBUTION_PATTERNS:
        if pattern.fullmatch(conda):
            raise _none(conda, why)
    return conda


def _canonical(name: str) -> str:
    """Return a conda name in the form in which equal ones are equal; an underscore in front stays."""
    mark = "_" if name.startswith("_") else ""
    return mark + canonicalize_name(name.removeprefix("_"))


def _none(conda: str, why: str) -> AnalyzeError:
    return AnalyzeError(
        f'the conda package "{conda}" is not on the Python index: {why}. Leave it out with '
        f'`conda_names = {{"{conda}": ""}}` of metaflow_flow, or name a distribution, '
        f'`conda_names = {{"{conda}": "distribution"}}`'
    )


@cache
def _mapping() -> Mapping[str, tuple[str, ...]]:
    """Return the distributions by conda name, of the wheel ``conda-pypi``.

    Raises:
        AnalyzeError: it is not installed.
    """
    package, file = _MAPPING
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise AnalyzeError("the names of conda packages are not known here: install `conda-pypi`")
    entries: Mapping[str, Mapping[str, Any]] = json.loads(Path(found.origin).with_name(file).read_text("utf-8"))
    table: dict[str, set[str]] = {}
    for entry in entries.values():
        if not _HEXADECIMAL.fullmatch(entry["pypi_name"]):
            table.setdefault(canonicalize_name(entry["conda_name"]), set()).add(entry["pypi_name"])
    return {name: tuple(sorted(found)) for name, found in table.items()}


@lru_cache(maxsize=8192)
def conda_specifier(version: str) -> str:
    """Return what a version of @conda means, as PEP 440 specifiers: empty for any.

    Metaflow gives micromamba ``name==version``, or ``name`` and the version when that starts with an operator. So
    ``1.2`` is exactly that version; ``=1.2`` and ``1.2.*`` are all that start so;
    ``>=1,<2`` and the like are as in PEP 440.

    Raises:
        AnalyzeError: it has alternatives (``1.2|1.3``), a build (``1.2=py39_0``), or is no version of PEP 440.
    """
    text = version.strip()
    if text in ("", "*"):
        return ""
    if "|" in text:
        raise _untranslatable(version, "has alternatives, which no requirement has: choose")
    specifiers = ",".join(_clause(clause.strip(), version) for clause in text.split(","))
    try:
        return str(SpecifierSet(specifiers))
    except InvalidSpecifier as error:
        raise _untranslatable(version, "is no version of PEP 440: write one that the Python index has") from error


def _clause(clause: str, version: str) -> str:
    match = _CLAUSE.fullmatch(clause)
    if match is None:
        build = re.fullmatch(r"[<>=!~]*[^=<>!~]+=[^=]+", clause)
        why = "names a build, which wheels do not have: leave it out" if build else "is not understood"
        raise _untranslatable(version, why)
    operator, number, everything = match["operator"], match["version"], match["any"] or ""
    if operator == "=":
        return f"=={number}.*"
    if operator in ("", "==", "==="):
        return f"=={number}{everything}"
    return f"{operator}{number}{everything}"


def _untranslatable(version: str, why: str) -> AnalyzeError:
    return AnalyzeError(f'the version "{version}" {why}')
