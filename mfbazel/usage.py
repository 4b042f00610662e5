"""The ``--help`` of a front that people start as a Bazel target."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection, Mapping


def show_target(
    parser: argparse.ArgumentParser, filled_in: Collection[str], environ: Mapping[str, str] = os.environ
) -> None:
    """Let the usage of ``parser`` be the command that was typed, where ``MFBAZEL_TARGET`` names the Bazel target.

    Args:
        parser: parser of a front, or of one of its sub-commands.
        filled_in: ``dest`` of the options that the target gives; the usage leaves them out.
        environ: the environment variables.
    """
    target = environ.get("MFBAZEL_TARGET")
    if not target:
        return
    parser.prog = f"bazel run {target} --"
    for action in parser._actions:
        if action.dest in filled_in:
            action.help = argparse.SUPPRESS
