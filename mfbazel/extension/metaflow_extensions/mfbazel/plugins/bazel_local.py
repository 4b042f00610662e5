"""Local tasks on the interpreter of their step."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from metaflow.decorators import StepDecorator

from . import bazel_task
from .bazel_errors import MissingInterpreterException


class BazelLocalDecorator(StepDecorator):  # type: ignore[misc]
    """Starts a task that runs on this machine with the packages that were locked for its step, and no others.

    The environment ``bazel`` attaches it to every step. It does not start tasks that another decorator sends elsewhere,
    or into a container. Wherever a task runs, it records what that runs on.
    """

    name = "bazel_local"
    defaults: dict[str, Any] = {}  # noqa: RUF012 - Metaflow's name and type

    def step_init(
        self, flow: Any, graph: Any, step: str, decos: Any, environment: Any, flow_datastore: Any, logger: Any
    ) -> None:
        """Remember whose interpreter to ask for."""
        del flow, graph, flow_datastore, logger
        self._step = step
        self._decos = decos
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
        container = next((deco for deco in self._decos if deco.name == "container"), None)
        try:
            python = self._environment.interpreter(self._step) if container is None else None
        except MissingInterpreterException:
            if retry_count <= max_user_code_retries:
                raise
            return
        if python is not None:
            cli_args.entrypoint[0] = python
            directories = [str(Path(python).parent), os.environ.get("PATH", "")]
            cli_args.env["PATH"] = os.pathsep.join(filter(None, directories))
        if hasattr(self._environment, "task_record"):
            record = self._environment.task_record(self._step, container)
            cli_args.env.setdefault(bazel_task.TASK_VARIABLE, record)

    def task_pre_step(
        self,
        step_name: str,
        task_datastore: Any,
        metadata: Any,
        run_id: str,
        task_id: str,
        flow: Any,
        graph: Any,
        retry_count: int,
        max_user_code_retries: int,
        ubf_context: Any,
        inputs: Any,
    ) -> None:
        """Record what the task runs on in its metadata."""
        del task_datastore, flow, graph, max_user_code_retries, ubf_context, inputs
        bazel_task.register(step_name, metadata, run_id, task_id, retry_count)

    def task_decorate(
        self, step_func: Any, flow: Any, graph: Any, retry_count: int, max_user_code_retries: int, ubf_context: Any
    ) -> Any:
        """Show what the task runs on in its card: now that every card is there, and the step's code has not begun."""
        del flow, graph, retry_count, max_user_code_retries, ubf_context
        bazel_task.show_in_card(self._step)
        return step_func
