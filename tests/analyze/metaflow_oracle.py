"""What Metaflow itself says of a flow, without any code of this project: the other side of the agreement tests.

:class:`Oracle` starts one process that has Metaflow imported. For each question it forks, so that every flow finds
Metaflow as if it had just been started, and runs the flow's file as ``python flow.py --environment=conda output-raw``
would. Where that command would print, the process looks at the live graph and decorators instead, so that values keep
their types. What the packages of a step mean is asked from the code that would install them: ``get_environment`` of
Metaflow's conda environment, and the command lines that its ``Pip`` and ``Micromamba`` would run.

Nothing is installed and nothing is asked from a network: connecting is refused in the process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

Json = dict[str, Any]
_OURS = "metaflow_extensions/mfbazel"


@dataclass(frozen=True)
class StepAnswer:
    """One step as Metaflow has it.

    Attributes:
        type: that of ``DAGNode``; ``next``: its ``out_funcs``.
        file, line: where Metaflow says that ``def`` stands.
        decorators: names of what stands on the step or was put there by a mutator, sorted, each once.
        attributes: per name the attributes that the flow gives, before Metaflow fills in defaults and merges others.
        disabled: whether ``get_environment`` says that the step has no environment of its own.
        python: as the environment would be made with, ``None`` when it is the launching interpreter's.
        pypi, conda: what Metaflow would name on the command lines of ``pip`` and ``micromamba``, in that order.
    """

    name: str
    type: str
    next: tuple[str, ...]
    file: str
    line: int
    decorators: tuple[str, ...]
    attributes: Mapping[str, Sequence[Json]]
    disabled: bool
    python: str | None
    pypi: tuple[str, ...]
    conda: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """A flow as Metaflow has it.

    Attributes:
        refusal: what Metaflow says where it does not load the flow (or could not make a step's environment);
            ``None`` when all is well.
        lint: what Metaflow's check of the graph says, which it makes before a run; ``None`` when all is well.
    """

    name: str = ""
    start: str = ""
    steps: Mapping[str, StepAnswer] = field(default_factory=dict)
    refusal: str | None = None
    lint: str | None = None


class Oracle:
    """A process that answers for one flow after another. Use it as a context."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="metaflow_oracle.")
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Oracle:
        self._process = subprocess.Popen(
            # It may write byte code: what each child imports is compiled by the first one alone.
            [
                sys.executable,
                str(Path(__file__).absolute().with_name("metaflow_oracle_server.py")),
                self._directory.name,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment(),
            cwd=self._directory.name,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process
        self._process.communicate()
        self._directory.cleanup()

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("METAFLOW", "AWS_"))}
        own = {
            "HOME": self._directory.name,
            "METAFLOW_HOME": self._directory.name,
            "METAFLOW_USER": "oracle",
            "METAFLOW_DATASTORE_SYSROOT_LOCAL": self._directory.name,
            "METAFLOW_DATASTORE_SYSROOT_S3": "s3://x/y",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_DEFAULT_REGION": "us-east-1",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path and not Path(path, _OURS).is_dir()),
        }
        return {**kept, **own}

    def ask(
        self,
        flow: Path,
        roots: Sequence[Path] = (),
        arguments: Sequence[str] = (),
        stubs: Sequence[str] = (),
    ) -> Answer:
        """Return what Metaflow says of ``flow``.

        Args:
            flow: the file.
            roots: further directories that modules are imported from.
            arguments: more of Metaflow's top-level command line, such as ``--config``.
            stubs: names of modules that are not installed and are to be imported all the same.
        """
        assert self._process and self._process.stdin and self._process.stdout
        question = {
            "flow": str(flow.absolute()),
            "roots": [str(root.absolute()) for root in roots],
            "arguments": list(arguments),
            "stubs": list(stubs),
        }
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process that asks Metaflow has ended with {self._process.wait()}")
        return _answer(json.loads(line))


def _answer(content: Json) -> Answer:
    steps = {name: _step(step) for name, step in content.pop("steps", {}).items()}
    return Answer(**content, steps=steps)


def _step(content: Json) -> StepAnswer:
    values: Json = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    return StepAnswer(**values)
