"""How a flow is to be read."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

WAYS = ("auto", "static", "dynamic")
"""``auto`` reads statically, and dynamically where a construct needs it."""


@dataclass(frozen=True)
class ReadOptions:
    """How a flow is to be read.

    Attributes:
        reading: one of :data:`WAYS`.
        python: ``X.Y`` for steps that declare no Python: decides which modules are of the standard library.
        configs: files for the flow's ``Config``, by the name of the Config.
        config_values: values (JSON text, as Metaflow's ``--config-value`` takes them) for the flow's ``Config``.
        conda_names: distributions by conda name, over the built-in table (:mod:`mfbazel.analyze.conda_names`). An empty
            value says that the conda package has no distribution and is to be left out.
        project: ``pyproject.toml`` whose ``[project]`` dependencies every step gets besides its own (as Metaflow's
            environment ``uv`` does); a ``uv.lock`` beside it pins them.
        timeout: seconds that reading dynamically may take.
    """

    reading: str = "auto"
    python: str = f"{sys.version_info.major}.{sys.version_info.minor}"
    configs: Mapping[str, Path] = field(default_factory=dict)
    config_values: Mapping[str, str] = field(default_factory=dict)
    conda_names: Mapping[str, str] = field(default_factory=dict)
    project: Path | None = None
    timeout: float = 60.0
