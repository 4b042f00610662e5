"""The command line of ``NAME.promote``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mfbazel.push.errors import PushError
from mfbazel.push.options import add_sending, in_working_directory, settings_of
from mfbazel.push.promote import Promotion, promote
from mfbazel.push.report import Reporter
from mfbazel.registry.artifact import SCHEME
from mfbazel.sign.arguments import add_signer, signing_of
from mfbazel.state import StateError, images_path, workspace_dir
from mfbazel.usage import show_target


def add_promote(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``promote``."""
    text = "copy the pushed images of a flow to another repository, by digest"
    parser = commands.add_parser("promote", help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument(
        "--images",
        metavar="FILE|oci://…",
        help="what a push wrote or published (default: the record of the last push from here)",
    )
    parser.add_argument(
        "--to", required=True, metavar="REPOSITORY", help="host[:port]/path; {step} in it stands for the step"
    )
    parser.add_argument("--label", help="the flow's Bazel label; instead of what images.json says")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the new images.json here")
    parser.add_argument(
        "--tag", action="append", default=[], metavar="T", help="tag each step's image <step>-T as well"
    )
    parser.add_argument(
        "--no-artifact", dest="artifact", action="store_false", help="do not publish images.json beside the images"
    )
    parser.add_argument(
        "--no-referrers", dest="referrers", action="store_false", help="leave signatures, SBOMs and the like behind"
    )
    add_signer(parser, "who signs the new images.json, and must have signed one that a registry has")
    parser.add_argument("--workspace", type=Path, help="the Bazel workspace (default: around here, if there is one)")
    add_sending(parser)
    show_target(parser, ("label", "workspace"))
    parser.set_defaults(run=_promote)


def _promote(options: argparse.Namespace) -> int:
    """Do what ``options`` say."""
    reporter = Reporter(results=not options.json)
    with reporter.failures_as_json(options.json):
        promoted = promote(_request(options), settings_of(options), reporter)
    if options.json:
        reporter.print_json(promoted.as_json())
    return 0


def _request(options: argparse.Namespace) -> Promotion:
    """Return what to promote."""
    workspace = options.workspace or _workspace()
    return Promotion(
        images=_images(options, workspace),
        to=options.to,
        label=options.label,
        workspace=workspace,
        output=options.output and in_working_directory(options.output),
        tags=options.tag,
        artifact=options.artifact,
        referrers=options.referrers,
        signing=signing_of(options, workspace or Path.cwd()),
    )


def _workspace() -> Path | None:
    try:
        return workspace_dir()
    except StateError:
        return None


def _images(options: argparse.Namespace, workspace: Path | None) -> str:
    """Return which images.json is meant."""
    named: str | None = options.images
    if named:
        return named if named.startswith(SCHEME) else str(in_working_directory(Path(named)))
    if not (workspace and options.label):
        raise PushError("which images? Name with --images what a push wrote (a file) or published (oci://…).")
    record = images_path(workspace, options.label)
    if not record.is_file():
        raise PushError(
            f"{options.label} was not pushed from here: there is no {record}. Push it (bazel run {options.label}.push) "
            "or name with --images what another push wrote (a file) or published (oci://…)."
        )
    return str(record)
