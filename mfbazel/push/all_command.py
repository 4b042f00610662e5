"""The command line of ``//:push_all``."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from mfbazel.push.all_bazel import PushBazel
from mfbazel.push.all_flows import EVERYTHING, AllFlows, add_all_options, select
from mfbazel.state import workspace_dir
from mfbazel.usage import show_target


def add_all(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``all``."""
    text = "push every flow of the repository, or those that changes affect"
    parser = commands.add_parser("all", help=text, description=f"{text[0].upper()}{text[1:]}.")
    add_all_options(parser)
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--crane")
    show_target(parser, ("crane",))
    parser.set_defaults(run=push_all)


def push_all(options: argparse.Namespace) -> int:
    """Do what ``options`` say; return the exit code.

    Raises:
        PushError: flows could not be found, or Bazel could not build.
    """
    screen = Console(stderr=True, highlight=False, soft_wrap=True)
    patterns = options.patterns or [EVERYTHING]
    bazel, workspace = PushBazel.find(options.bazel), workspace_dir()
    screen.print(f"finding the flows of {', '.join(patterns)}", markup=False)
    run = AllFlows(select(bazel, workspace, patterns, options.exclude, options.since), screen)
    run.show_selection()
    if options.list:
        print(run.document("listed", {}) if options.json else "\n".join(result.label for result in run.selection.results))
        return run.exit_code()
    built = run.build(bazel, [*(["--stamp"] if options.stamp else []), *options.build_option], fail_fast=options.fail_fast)
    print(built)
    return run.exit_code()
