"""What is found in a flow; ``to_json`` gives a flow spec as in ``docs/flow_spec.schema.json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mfbazel.analyze.requirements import requirements_sha256

SCHEMA = 1
"""The version of the schema of a flow spec; it grows when a reader of the old one could be misled."""


@dataclass(frozen=True, order=True)
class Place:
    """A line of a file; the path is relative to the flow's directory or to the import root it was found in."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Reading:
    """How a flow was read. ``way``: ``static`` or ``dynamic``; ``reason``: why, in a sentence."""

    way: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return the entry ``reading``."""
        return asdict(self)


@dataclass(frozen=True)
class Declared:
    """One package of a step.

    Attributes:
        name: the normalized name of the distribution with its extras.
        specifier: PEP 440 specifiers or ``@ <url>``, with the marker after `` ; `` if there is one; may be empty.
        decorator: ``pypi``, ``conda``, ``pypi_base`` or ``conda_base``; ``project`` for a dependency of the project.
        line: that of the package's own entry.
        conda: the conda name where ``name`` is what it was mapped to (without channel), else ``None``.
    """

    name: str
    specifier: str
    decorator: str
    file: str
    line: int
    conda: str | None = None

    @property
    def requirement(self) -> str:
        """The PEP 508 requirement."""
        return f"{self.name} {self.specifier}" if self.specifier.startswith("@") else f"{self.name}{self.specifier}"

    def to_json(self) -> dict[str, Any]:
        """Return the entry of ``declared``."""
        entry = asdict(self)
        if self.conda is None:
            del entry["conda"]
        return entry


@dataclass(frozen=True, order=True)
class Inferred:
    """A module outside the standard library and the first-party code that a step imports.

    Attributes:
        module: the dotted name after ``import`` or ``from``.
        members: the names after ``from … import``, sorted; they may be modules (``google.cloud`` and ``storage``).
        file, line: one place where the step imports it, in the flow's own file where there is one.
    """

    module: str
    file: str
    line: int
    members: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the entry of ``inferred``."""
        return {"module": self.module, "members": list(self.members), "file": self.file, "line": self.line}


@dataclass(frozen=True)
class Remote:
    """A decorator that runs a step elsewhere (@batch, @kubernetes); ``image`` is the user's own, as text (read
    statically: an expression that is no constant, as it stands in the source)."""

    decorator: str
    image: str | None
    line: int

    def to_json(self) -> dict[str, Any]:
        """Return the entry of ``remote``."""
        return asdict(self)


@dataclass(frozen=True)
class Requests:
    """What the decorators of a step ask for, the largest value where several do; ``None``: nothing is asked for.

    Attributes:
        cpu: number of CPUs.
        memory: MB, as Metaflow counts them.
        gpu: number of GPUs, ``None`` also for zero.
    """

    cpu: float | None = None
    memory: int | None = None
    gpu: int | None = None


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        type: ``start``, ``linear``, ``split``, ``split-switch``, ``foreach``, ``join`` or ``end``, as Metaflow has it.
        file, line: where its ``def`` stands.
        decorators: the names of Metaflow's decorators on it, sorted, ``step`` apart.
        python: as declared, ``None`` when nothing is.
        platform: ``os/arch`` that the step asks for, ``None`` for any.
        declared: the packages; present even when ``disabled``.
        requirements: the packages of the decorators as Metaflow has them after merging: what the hash is made of.
    """

    name: str
    type: str
    next: tuple[str, ...]
    file: str
    line: int
    decorators: tuple[str, ...]
    disabled: bool
    python: str | None
    requests: Requests
    platform: str | None
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
        """The hash of what the decorators declare."""
        if self.disabled:
            return requirements_sha256(None, {})
        return requirements_sha256(self.python, dict(self.requirements))

    def to_json(self) -> dict[str, Any]:
        """Return the entry of ``steps``."""
        return {
            "name": self.name,
            "type": self.type,
            "next": list(self.next),
            "file": self.file,
            "line": self.line,
            "decorators": list(self.decorators),
            "environment": self.name,
            "disabled": self.disabled,
            "python": self.python,
            "base": self.base,
            "platform": self.platform,
            "cpu": self.requests.cpu,
            "memory": self.requests.memory,
            "gpu": self.requests.gpu,
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
    reading: Reading

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
        """Return the flow spec as JSON values."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "source": self.source,
            "reading": self.reading.to_json(),
            "steps": [step.to_json() for step in self.steps],
        }
