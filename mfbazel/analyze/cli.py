"""The command line: a flow's file in, the flow part of the contract out."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from mfbazel.analyze.reader import read_flow


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    Raises:
        mfbazel.analyze.AnalyzeError: the flow cannot be read.
    """
    parser = argparse.ArgumentParser(prog="python -m mfbazel.analyze", description=__doc__)
    parser.add_argument("flow", type=Path, metavar="FLOW.py")
    parser.add_argument(
        "--first-party", action="append", default=[], type=Path, metavar="DIR", help="import root; repeatable"
    )
    arguments = parser.parse_args(argv)
    workspace = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", "."))
    spec = read_flow(workspace / arguments.flow, [workspace / path for path in arguments.first_party])
    print(json.dumps(spec.to_json(), indent=2, sort_keys=True, ensure_ascii=False))
    return 0
