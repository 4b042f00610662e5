"""What @pypi and @conda mean: Metaflow's merging and version rules, and the hash of what a step declares.

The same functions serve the static reader and the extension, which has Metaflow's live decorators.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from mfbazel.analyze.errors import AnalyzeError

Package = TypeVar("Package")
"""What stands for a package's version: the text itself, or the text with the place where it was written."""


@dataclass(frozen=True)
class Attributes(Generic[Package]):
    """The attributes of one @pypi, @conda, @pypi_base or @conda_base; ``None`` is Metaflow's default."""

    packages: Mapping[str, Package]
    python: str | None = None
    disabled: bool | None = None


@dataclass(frozen=True)
class Effective(Generic[Package]):
    """What holds for a step after merging. ``packages`` are there even when ``disabled`` says not to use them."""

    packages: Mapping[str, Package]
    python: str | None
    disabled: bool


def merge(base: Attributes[Package] | None, step: Attributes[Package] | None) -> Attributes[Package] | None:
    """Merge a flow-level decorator into the step's: the step's packages, Python and ``disabled`` win."""
    if base is None or step is None:
        return step or base
    return Attributes(
        {**base.packages, **step.packages},
        step.python or base.python,
        base.disabled if step.disabled is None else step.disabled,
    )


def is_disabled(value: Any) -> bool:
    """Say whether ``disabled`` has a value with which Metaflow makes no environment: all but false ones and "false"."""
    return bool(value) and str(value).lower() != "false"


def effective(pypi: Attributes[Package] | None, conda: Attributes[Package] | None) -> Effective[Package]:
    """Combine a step's merged @pypi and @conda.

    Raises:
        AnalyzeError: both declare packages, which Metaflow refuses.
    """
    present = [attributes for attributes in (pypi, conda) if attributes is not None]
    disabled = any(attributes.disabled for attributes in present)
    if not disabled and len(present) == 2 and all(attributes.packages for attributes in present):
        raise AnalyzeError(
            "it has packages from both @pypi and @conda, which Metaflow refuses: move them into one of the two"
        )
    packages = {name: package for attributes in reversed(present) for name, package in attributes.packages.items()}
    python = next((attributes.python for attributes in present if attributes.python), None)
    return Effective(packages, python, disabled)


def live_requirements(decorators: Mapping[str, Mapping[str, Any]]) -> Effective[str]:
    """Return what holds for a step of a running Metaflow.

    Args:
        decorators: the ``attributes`` of the step's decorators named ``pypi`` and ``conda``, after Metaflow (or an
            override of its decorators) has merged the flow-level ones into them. ``python`` must be what was declared:
            ``None`` where Metaflow's own @conda fills in the launching interpreter's version.
    """
    found = {name: _live(decorators[name]) for name in ("pypi", "conda") if name in decorators}
    return effective(found.get("pypi"), found.get("conda"))


def _live(attributes: Mapping[str, Any]) -> Attributes[str]:
    packages = {**(attributes.get("libraries") or {}), **(attributes.get("packages") or {})}
    python = attributes.get("python")
    return Attributes(packages, str(python) if python else None, is_disabled(attributes.get("disabled")))


@lru_cache(maxsize=8192)
def requirement(package: str, version: str) -> Requirement:
    """Return the requirement that a key and a value of ``packages`` mean.

    Metaflow's rules: a version that starts with ``< > ! ~ @`` is used as it is, an empty one means any, all others
    are pinned with ``==``. The key may hold extras or a URL (``pkg[extra]``, ``pkg@git+https://…``). In addition
    ``==2.2`` is taken as it is, conda's ``=2.2`` means ``==2.2.*``, and conda's ``channel::`` before a name is dropped:
    all packages come from the Python index. conda's ``*`` means any version.

    Raises:
        AnalyzeError: it is not a requirement.
    """
    name, text = package.rpartition("::")[2].strip(), version.strip()
    if text[:2] in ("=>", "=<", "=!", "=~"):
        raise AnalyzeError(f'"{package}": "{version}" is not a requirement: write "{text[1]}={text[2:]}"')
    if "@" in name:
        return _parsed(package, version, _joined(package, name, version, text))
    if text.startswith("=") and not text.startswith("=="):
        text = f"=={text[1:].strip().removesuffix('.*')}.*"
    elif text == "*":
        text = ""
    elif text and not text.startswith(("<", ">", "!", "~", "@", "=")):
        text = f"=={text}"
    return _parsed(package, version, f"{name} {text}" if text.startswith("@") else f"{name}{text}")


def _joined(package: str, name: str, version: str, text: str) -> str:
    """Return a key that holds a URL with its version, which may only be a reference (``@v1``)."""
    if text and not text.startswith("@"):
        raise AnalyzeError(f'"{package}": "{version}" is not a requirement: a URL has no version, leave it empty')
    return f"{name}{text}"


def _parsed(package: str, version: str, text: str) -> Requirement:
    try:
        text.encode()
        return Requirement(text)
    except InvalidRequirement as error:
        raise AnalyzeError(f'"{package}": "{version}" is not a requirement: {str(error).splitlines()[0]}') from error
    except UnicodeEncodeError as error:
        raise AnalyzeError(f"{package!a}: {version!a} is not a requirement: it is no text") from error


def split(parsed: Requirement) -> tuple[str, str]:
    """Return name with extras, and the canonical specifier (``==2.2``, ``@ <url>`` or nothing) with its marker."""
    extras = f"[{','.join(sorted(parsed.extras))}]" if parsed.extras else ""
    specifier = f"@ {parsed.url}" if parsed.url else str(parsed.specifier)
    marker = f" ; {parsed.marker}" if parsed.marker else ""
    return f"{canonicalize_name(parsed.name)}{extras}", f"{specifier}{marker}"


@lru_cache(maxsize=8192)
def said(package: str, version: str) -> tuple[str, str]:
    """Return what an entry of ``packages`` says, in the form in which equal entries are equal: name and specifier.

    They are those of :func:`split`; of an entry that is no requirement (a conda package that has no distribution may
    have any name, and a build as its version) the text itself.
    """
    try:
        return split(requirement(package, version))
    except AnalyzeError:
        return package.rpartition("::")[2].strip().lower(), version.strip()


def requirements_sha256(python: str | None, packages: Mapping[str, str]) -> str:
    """Return the lower-case hex hash of what a step declares and nothing else.

    It is the sha256 of the UTF-8 canonical JSON (sorted keys, no spaces) of ``{"packages": {name: form}, "python":
    …}``;
    ``name`` is normalized, ``form`` is extras and canonical specifier or URL (of several keys with one name: sorted and
    joined by a comma). A disabled step declares nothing: ``requirements_sha256(None, {})``.

    Args:
        python: as Metaflow's attribute has it after merging.
        packages: likewise; keys and values as in :func:`requirement`.

    Of an entry that is no requirement the text counts; that it cannot be locked is not for the hash to say.
    """
    forms: dict[str, set[str]] = {}
    for package, version in packages.items():
        name, specifier = said(package, str(version))
        bare, bracket, extras = name.partition("[")
        forms.setdefault(bare, set()).add(f"{bracket}{extras}{specifier}")
    table = {
        "packages": {name: ",".join(sorted(found)) for name, found in forms.items()},
        "python": str(python) if python else None,
    }
    canonical = json.dumps(table, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8", "backslashreplace")).hexdigest()
