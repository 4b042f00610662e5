"""What either way of reading finds in a flow, before it is given its meaning.

The static and the dynamic reader both end here; :mod:`mfbazel.analyze.assemble` makes the flow spec of it. So the
meaning of versions, merged decorators, conda names and imports is written once, and both ways give one answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mfbazel.analyze.model import Place, Reading, Remote, Requests
from mfbazel.analyze.requirements import Attributes


@dataclass(frozen=True)
class Written:
    """The version of one package as a decorator has it, and where the entry stands.

    ``decorator`` is ``pypi``, ``conda``, ``pypi_base`` or ``conda_base``: the one that holds the entry.
    """

    version: str
    decorator: str
    place: Place


@dataclass(frozen=True)
class RawStep:
    """One step.

    Attributes:
        type: ``start``, ``linear``, ``split``, ``split-switch``, ``foreach``, ``join`` or ``end``, as Metaflow has it.
        place: the file and line of ``def``.
        decorators: the names of Metaflow's decorators on the step, sorted, without ``step`` and without those that
            an environment or the command line attaches.
        pypi, conda: the attributes after the flow-level decorator is merged in; keys of ``packages`` as written.
            ``None`` without such a decorator on step and flow.
        platform: ``os/arch`` that the step asks for, ``None`` for any.
    """

    name: str
    type: str
    next: tuple[str, ...]
    place: Place
    decorators: tuple[str, ...] = ()
    pypi: Attributes[Written] | None = None
    conda: Attributes[Written] | None = None
    remote: tuple[Remote, ...] = ()
    requests: Requests = field(default_factory=Requests)
    platform: str | None = None


@dataclass(frozen=True)
class RawFlow:
    """A flow: its class, the name of its file, the first step, and the steps in any order."""

    name: str
    source: str
    start: str
    steps: tuple[RawStep, ...]
    reading: Reading
