"""Names with ``{…}`` in them: repositories, tags and annotations.

``{flow}``, ``{step}``, ``{lock}`` and ``{platform}`` stand for what is built; names in capitals, such as
``{STABLE_GIT_COMMIT}``, for stamp variables, which are known in stamped builds only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mfbazel.image.errors import ImageError

_NAME = re.compile(r"\{([^{}]*)\}")
_STAMP_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")


@dataclass(frozen=True)
class Stamp:
    """The stamp variables of a build: what Bazel's workspace status command says.

    Attributes:
        values: by name; empty where ``stamped`` is false.
        stamped: whether the build is stamped (``--stamp``).
    """

    values: Mapping[str, str] = field(default_factory=dict)
    stamped: bool = False

    def first(self, names: tuple[str, ...]) -> str | None:
        """Return the value of the first of ``names`` that has one."""
        return next((self.values[name] for name in names if self.values.get(name)), None)


def parse_status(text: str) -> dict[str, str]:
    """Parse a workspace status file: a line per variable, its name, a space, its value."""
    return {line.partition(" ")[0]: line.partition(" ")[2] for line in text.splitlines() if line}


def variables(template: str) -> list[str]:
    """Return the names between braces in ``template``, in order."""
    return _NAME.findall(template)


def stamp_variables(template: str) -> list[str]:
    """Return the stamp variables of ``template``, in order."""
    return [name for name in variables(template) if _STAMP_VARIABLE.fullmatch(name)]


def expand(template: str, values: Mapping[str, str], stamp: Stamp, where: str, *, known: Iterable[str] = ()) -> str:
    """Return ``template`` with its names replaced.

    Args:
        template: such as ``registry.example.com/ml/{flow}``.
        values: what the names that are no stamp variables stand for.
        stamp: the stamp variables.
        where: where the template stands, for the error.
        known: names that the error lists besides those of ``values``.

    Raises:
        ImageError: a name is not known, a brace is alone, or a stamp variable has no value in this build.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name in values:
            return values[name]
        if not _STAMP_VARIABLE.fullmatch(name):
            listed = ", ".join(f"{{{name}}}" for name in sorted({*values, *known}))
            raise ImageError(
                f"{where}: {{{name}}} in {template!r} is not known; known are {listed} and stamp variables, "
                "which are written in capitals"
            )
        if not stamp.stamped:
            raise ImageError(
                f"{where}: {{{name}}} in {template!r} is a stamp variable, and this build is not stamped: "
                "build with --stamp"
            )
        if name not in stamp.values:
            printed = ", ".join(sorted(stamp.values)) or "none"
            raise ImageError(
                f"{where}: the workspace status command does not print {name}, which {template!r} uses; it prints: "
                f"{printed}. Print it in the script that --workspace_status_command names."
            )
        return stamp.values[name]

    result = _NAME.sub(value, template)
    if "{" in _NAME.sub("", template) or "}" in _NAME.sub("", template):
        raise ImageError(f"{where}: {template!r} has a brace without its partner")
    return result
