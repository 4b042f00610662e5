"""The command line of ``//:push_all``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mfbazel.push.all_bazel import BuiltFlow, PushBazel
from mfbazel.push.all_flows import EVERYTHING, AllFlows, add_all_options, output_of, select
from mfbazel.push.flow import Pushed, push_flows
from mfbazel.push.options import add_crane, add_sending, add_store, in_working_directory, settings_of, store_of
from mfbazel.push.prepare import FlowPush
from mfbazel.push.report import Reporter
from mfbazel.state import workspace_dir
from mfbazel.usage import show_target


def add_all(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``all``."""
    text = "push every flow of the repository, or those whose images changes affect"
    parser = commands.add_parser("all", help=text, description=f"{text[0].upper()}{text[1:]}.")
    add_all_options(parser)
    parser.add_argument(
        "--tag", action="append", default=[], metavar="T", help="tag each step's image <step>-T as well"
    )
    parser.add_argument(
        "--no-artifact", dest="artifact", action="store_false", help="do not publish images.json beside the images"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="write a copy of each flow's record to DIR/<package>/<name>/images.json",
    )
    parser.add_argument("--no-sign", action="store_true", help="sign nothing, whatever the flows' attributes say")
    add_sending(parser)
    add_crane(parser)
    add_store(parser)
    show_target(parser, ("crane",))
    parser.set_defaults(run=push_all)


def push_all(options: argparse.Namespace) -> int:
    """Do what ``options`` say; return the exit code.

    Raises:
        PushError: flows could not be found, or Bazel could not build.
    """
    reporter = Reporter(results=not options.json)
    with reporter.failures_as_json(options.json):
        return _push_all(options, reporter)


def _push_all(options: argparse.Namespace, reporter: Reporter) -> int:
    began = time.monotonic()
    screen = Console(stderr=True, highlight=False, soft_wrap=True)
    patterns = options.patterns or [EVERYTHING]
    bazel, workspace = PushBazel.find(options.bazel), workspace_dir()
    screen.print(f"finding the flows of {', '.join(patterns)}", markup=False)
    since: str | None = options.since
    if since is not None and not since.strip("0"):  # what CI systems say of a branch that is new
        screen.print("there is no earlier revision: every flow", markup=False)
        since = None
    flows = AllFlows(select(bazel, workspace, patterns, options.exclude, since), screen, began)
    flows.show_selection()
    if options.list:
        return _list(flows, reporter, json=options.json)
    built = flows.build(
        bazel, [*(["--stamp"] if options.stamp else []), *options.build_option], fail_fast=options.fail_fast
    )
    pushed = _push(built, options, workspace, reporter).as_json() if built else {}
    flows.enter(pushed.pop("flows", ()))
    done = "checked" if options.dry_run else "pushed"
    if options.json:
        reporter.print_json({**flows.document(done), **pushed})
    flows.show_summary(done)
    return flows.exit_code()


def _list(flows: AllFlows, reporter: Reporter, *, json: bool) -> int:
    """Say which flows are chosen, and do nothing."""
    if json:
        reporter.print_json(flows.document("chosen"))
    elif labels := [chosen.label for chosen in flows.selection.results]:
        print("\n".join(labels))
    return flows.exit_code()


def _push(built: Sequence[BuiltFlow], options: argparse.Namespace, workspace: Path, reporter: Reporter) -> Pushed:
    """Push the flows in one run."""
    directory = options.output and in_working_directory(options.output)
    requests = [
        FlowPush(
            images=flow.images,
            layouts=flow.layouts,
            workspace=workspace,
            store=store_of(options),
            crane=options.crane,
            label=flow.label,
            output=output_of(directory, flow.label),
            tags=options.tag,
            artifact=options.artifact,
            sign=None if options.no_sign else flow.sign,
            sign_options={} if options.no_sign else flow.sign_options,
            attach=flow.attach,
        )
        for flow in built
    ]
    return push_flows(requests, settings_of(options), reporter)
