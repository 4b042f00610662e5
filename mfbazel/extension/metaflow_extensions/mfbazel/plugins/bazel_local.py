"""Local tasks on the interpreter of their step."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from metaflow.decorators import StepDecorator

from .bazel_errors import MissingInterpreterException


class BazelLocalDecorator(StepDecorator):  # type: ignore[misc]
    """Starts a task that runs on this machine with the packages that were locked for its step, and no others.

    The environment ``bazel`` attaches it to every step. It leaves a task alone that another decorator sends elsewhere.
    """

    name = "bazel_local"
    defaults: dict[str, Any] = {}  # noqa: RUF012 - Metaflow's name and type

    def step_init(
        self, flow: Any, graph: Any, step: str, decos: Any, environment: Any, flow_datastore: Any, logger: Any
    ) -> None:
        """Remember whose interpreter to ask for."""
        del flow, graph, decos, flow_datastore, logger
        self._step = step
        self._environment = environment

    def runtime_step_cli(self, cli_args: Any, retry_count: int, max_user_code_retries: int, ubf_context: Any) -> None:
        """Put the step's interpreter into the command line of a local task, and its directory first on PATH.

        What @catch does here after the last attempt failed elsewhere runs none of the step's code, and any interpreter
        with Metaflow will do.

        Raises:
            MissingInterpreterException: there is none.
        """
        del ubf_context
        if cli_args.commands[0] not in ("step", "spin-step") or not hasattr(self._environment, "interpreter"):
            return
        try:
            python = self._environment.interpreter(self._step)
        except MissingInterpreterException:
            if retry_count <= max_user_code_retries:
                raise
            return
        if python is not None:
            cli_args.entrypoint[0] = python
            directories = [str(Path(python).parent), os.environ.get("PATH", "")]
            cli_args.env["PATH"] = os.pathsep.join(filter(None, directories))
