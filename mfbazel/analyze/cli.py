"""The command line: a flow's file in, a flow spec out."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from mfbazel.analyze.arguments import add_read_arguments, read_arguments
from mfbazel.analyze.read import read_flow


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    Raises:
        mfbazel.analyze.AnalyzeError: the flow cannot be read.
    """
    parser = argparse.ArgumentParser(prog="python -m mfbazel.analyze", description=__doc__, fromfile_prefix_chars="@")
    add_read_arguments(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")
    arguments = parser.parse_args(argv)
    spec = read_flow(*read_arguments(arguments))
    text = json.dumps(spec.to_json(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    return 0
