"""Runs Metaflow's command line on a flow and writes what that cost this process.

    python measured.py init|all RESULT [PYTHON] -- FLOW ARGUMENTS…

``init`` ends with the environment's ``init_environment``; ``all`` takes PYTHON for what starts tasks.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.runtime.fork_server import run_flow


def main() -> None:
    """Run the flow that the command line names."""
    at = sys.argv.index("--")
    kind, result, *python = sys.argv[1:at]
    sys.argv = sys.argv[at + 1 :]
    own: list[float] = []
    if kind == "init":
        _measure_init(Path(result))
    else:
        sys.executable = python[0]
        _measure_hooks(own)
    try:
        run_flow()
    finally:
        if kind == "all":
            used = resource.getrusage(resource.RUSAGE_SELF)
            found = {"seconds": used.ru_utime + used.ru_stime, "peak_kib": used.ru_maxrss, "own_seconds": sum(own)}
            del own[:]
            gc.collect()
            _write(Path(result), {**found, "blocks": sys.getallocatedblocks()})


def _measure_init(result: Path) -> None:
    from metaflow.plugins import ENVIRONMENTS

    (environment,) = (found for found in ENVIRONMENTS if found.TYPE == "bazel")
    plain = environment.init_environment

    def measured(self: Any, echo: Callable[..., None]) -> None:
        before = time.process_time()
        plain(self, echo)
        _write(result, {"seconds": time.process_time() - before})
        raise SystemExit(0)

    environment.init_environment = measured


def _measure_hooks(own: list[float]) -> None:
    """Let ``own`` receive the processor time of each call that is made for a task, in seconds."""
    from metaflow.plugins import STEP_DECORATORS

    for decorator in (found for found in STEP_DECORATORS if found.name == "bazel_local"):
        plain = decorator.runtime_step_cli

        def measured(self: Any, *arguments: Any, plain: Callable[..., None] = plain) -> None:
            before = time.thread_time()
            plain(self, *arguments)
            own.append(time.thread_time() - before)

        decorator.runtime_step_cli = measured


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


if __name__ == "__main__":
    main()
