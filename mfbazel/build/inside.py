"""Runs a command where it has no network: ``inside.py PARENT COMMAND…`` (standard library only, run as a script).

``PARENT`` is the process that waits for it: when that is gone, the command is ended.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

_ISOLATE = Path(__file__).absolute().parents[1] / "analyze" / "dynamic" / "child" / "isolate.py"


def main() -> None:
    """Leave the network's namespace where the kernel lets it, and become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    isolate = _load()
    isolate.end_with_parent(parent)
    os.umask(0o022)
    if isolate.leave_network():
        isolate.in_own_processes()
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]} cannot be started: {error.strerror}")


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("_mfbazel_isolate", _ISOLATE)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{_ISOLATE} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
