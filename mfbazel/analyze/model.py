"""What the reader finds in a flow; ``to_json`` gives the flow part of docs/design/interfaces.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mfbazel.analyze.requirements import requirements_sha256


@dataclass(frozen=True)
class Declared:
    """One package of a step. ``name`` is normalized and has its extras; ``line`` is that of the package's entry."""

    name: str
    specifier: str
    decorator: str
    file: str
    line: int

    @property
    def requirement(self) -> str:
        """The PEP 508 requirement."""
        return f"{self.name} {self.specifier}" if self.specifier.startswith("@") else f"{self.name}{self.specifier}"

    def to_json(self) -> dict[str, Any]:
        """Return the entry of ``declared``."""
        return {
            "name": self.name,
            "specifier": self.specifier,
            "decorator": self.decorator,
            "file": self.file,
            "line": self.line,
        }


@dataclass(frozen=True, order=True)
class Inferred:
    """A third-party module that a step imports, and one place where it does."""

    module: str
    file: str
    line: int

    def to_json(self) -> dict[str, Any]:
        """Return the entry of ``inferred``."""
        return {"module": self.module, "file": self.file, "line": self.line}


@dataclass(frozen=True)
class Remote:
    """@batch or @kubernetes on a step; ``image`` is the user's own, as text (an expression as it stands in
    the source)."""

    decorator: str
    image: str | None
    line: int

    def to_json(self) -> dict[str, Any]:
        """Return the entry of ``remote``."""
        return {"decorator": self.decorator, "image": self.image, "line": self.line}


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        type: ``start``, ``linear``, ``split``, ``split-switch``, ``foreach``, ``join`` or ``end``, as Metaflow has it.
        line: the line of ``def``.
        python: as declared, ``None`` when nothing is.
        gpu: how many, ``None`` for none.
        requirements: the packages as Metaflow's attributes have them after merging.
        declared: the same, read; present even when ``disabled``.
    """

    name: str
    type: str
    next: tuple[str, ...]
    line: int
    disabled: bool
    python: str | None
    gpu: int | None
    declared: tuple[Declared, ...]
    inferred: tuple[Inferred, ...]
    remote: tuple[Remote, ...]
    requirements: tuple[tuple[str, str], ...]
    base: str = "default"

    @property
    def effective_declared(self) -> tuple[Declared, ...]:
        """What the step's environment gets: ``declared``, or nothing when it is disabled."""
        return () if self.disabled else self.declared

    @property
    def requirements_sha256(self) -> str:
        """The hash of what is declared."""
        if self.disabled:
            return requirements_sha256(None, {})
        return requirements_sha256(self.python, dict(self.requirements))

    def to_json(self) -> dict[str, Any]:
        """Return the entry of ``steps``."""
        return {
            "name": self.name,
            "type": self.type,
            "next": list(self.next),
            "line": self.line,
            "environment": self.name,
            "disabled": self.disabled,
            "python": self.python,
            "base": self.base,
            "gpu": self.gpu,
            "declared": [declared.to_json() for declared in self.declared],
            "inferred": [inferred.to_json() for inferred in self.inferred],
            "remote": [remote.to_json() for remote in self.remote],
            "requirements_sha256": self.requirements_sha256,
        }


@dataclass(frozen=True)
class FlowSpec:
    """A flow. ``source`` is its file's name; ``steps`` are in topological order."""

    name: str
    source: str
    steps: tuple[Step, ...]

    def step(self, name: str) -> Step:
        """Return the step ``name``.

        Raises:
            KeyError: there is none.
        """
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """Return the flow part of the contract."""
        return {"name": self.name, "source": self.source, "steps": [step.to_json() for step in self.steps]}
