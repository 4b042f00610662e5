"""The command line: what is deployed in, checks out."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mfbazel.registry import Client
from mfbazel.registry.artifact import SCHEME
from mfbazel.sign.arguments import add_signer, signing_of
from mfbazel.sign.documents import KINDS
from mfbazel.sign.marks import FILE as MARKS
from mfbazel.state import images_path, workspace_dir
from mfbazel.usage import show_target
from mfbazel.verify.check import Status
from mfbazel.verify.checks import IMAGES_SIGNATURE, SIGNATURE, verify
from mfbazel.verify.deployed import Deployed, read_deployed
from mfbazel.verify.errors import VerifyError
from mfbazel.verify.locked import Locked, read_lock
from mfbazel.verify.report import passed, print_checks, summary, to_json
from mfbazel.verify.wish import Wish

_ATTACHED = (SIGNATURE, IMAGES_SIGNATURE, *KINDS)
"""Checks of what a push attaches and signs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 when every check passed, else 1.

    Raises:
        MfbazelError: it cannot be told what is deployed, or an option is wrong.
    """
    options = _parser().parse_args(argv)
    if not options.images and not options.label:
        raise VerifyError(
            "name what is deployed: --images FILE, --images oci://…, or --label //package:name of a pushed flow."
        )
    workspace = _workspace(options)
    signing = signing_of(options, workspace)
    locked = _lock(options)
    source = _typed(options.images) if options.images else str(images_path(workspace, options.label))
    deployed = read_deployed(source, options.insecure, options.timeout)
    _check_steps(options.step, deployed)
    built = _built(Path(_typed(str(options.built)))) if options.built else None
    wish = Wish(
        signing=signing,
        locked=locked,
        expected=tuple(dict.fromkeys(options.expect)),
        built=built,
        steps=options.step,
        blobs=options.blobs,
        label=options.label or "",
        foreign=options.foreign,
    )
    checks = list(verify(deployed, wish, lambda host: Client(host, options.insecure, options.timeout)))
    if options.json:
        print(to_json(deployed, checks))
    else:
        print_checks(checks)
        print(f"{deployed.where}: {summary(checks)}", file=sys.stderr)
    if options.label and any(check.name in _ATTACHED and check.status is Status.FAILED for check in checks):
        _forget(images_path(workspace, options.label).with_name(MARKS), options.label)
    return 0 if passed(checks) else 1


def _forget(marks: Path, label: str) -> None:
    """Let the next push ask the registry what is attached and signed, instead of remembering that it did so."""
    try:
        marks.unlink()
    except OSError:
        return  # nothing is remembered, or it is nobody's to change who only verifies
    print(f"the next push of {label} looks again at what is attached and signed", file=sys.stderr)


def _workspace(options: argparse.Namespace) -> Path:
    """Return the workspace: with ``--images`` none is needed, and this directory stands in for it outside of one."""
    if options.workspace or (options.images and "BUILD_WORKSPACE_DIRECTORY" not in os.environ):
        return options.workspace or Path.cwd()
    return workspace_dir()


def _typed(path: str) -> str:
    """Return a path as the person meant it who typed ``bazel run``, which changes the directory; or an address."""
    return path if path.startswith(SCHEME) else str(Path(os.environ.get("BUILD_WORKING_DIRECTORY", ""), path))


def _lock(options: argparse.Namespace) -> Locked | None:
    if not options.lock:
        if options.includes:
            raise VerifyError("--includes says something of a lock: give it with --lock.")
        return None
    includes = {}
    for entry in options.includes:
        step, equals, others = entry.partition("=")
        if not (step and equals and others):
            raise VerifyError(f"--includes {entry}: write STEP=STEP,…")
        includes[step] = others.split(",")
    return read_lock(options.lock, includes)


def _check_steps(steps: Sequence[str], deployed: Deployed) -> None:
    known = [image.step for image in deployed.images]
    if unknown := [step for step in steps if step not in known]:
        raise VerifyError(f"--step {unknown[0]}: {deployed.where} has no such step; it has {', '.join(known)}.")


def _built(path: Path) -> dict[str, str]:
    try:
        return {step: str(entry["digest"]) for step, entry in json.loads(path.read_bytes())["steps"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise VerifyError(
            f"--built {path}: no images.json of a build ({error}). Build the flow's `.images`."
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mfbazel.verify",
        description="Checks what is deployed of a flow: digests, blobs, signatures, SBOMs, provenance of its images.",
        epilog="Exit codes: 0, every check passed; 1, one failed, or it cannot be told what is deployed.",
        fromfile_prefix_chars="@",
    )
    parser.add_argument(
        "--images",
        metavar="FILE|oci://…",
        help="images.json of a push, or the artifact of one (default: the last push's record)",
    )
    parser.add_argument("--label", metavar="//PKG:NAME", help="the flow's target: whose record is read")
    parser.add_argument("--workspace", type=Path, metavar="DIR", help="the Bazel workspace (default: around here)")
    parser.add_argument("--step", action="append", default=[], metavar="NAME", help="check only this step; repeat")
    parser.add_argument("--lock", type=Path, metavar="FILE", help="flow.json of the lock to compare with")
    parser.add_argument(
        "--includes",
        action="append",
        default=[],
        metavar="STEP=STEP,…",
        help="whose images the image of a step is derived from",
    )
    parser.add_argument(
        "--foreign",
        action="append",
        default=[],
        metavar="STEP",
        help="a step whose image is not made from the lock, and has no documents; repeat",
    )
    parser.add_argument(
        "--expect", action="append", default=[], choices=KINDS, help="a document that every image must have; repeat"
    )
    add_signer(parser, "whose signatures count")
    parser.add_argument(
        "--built", type=Path, metavar="FILE", help="images.json of a build whose digests must be deployed"
    )
    parser.add_argument("--blobs", action="store_true", help="read and hash every blob, instead of asking for it")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--insecure", action="store_true", help="allow plain HTTP and unverifiable certificates")
    parser.add_argument(
        "--timeout", type=float, default=60.0, metavar="SECONDS", help="for each request with its retries"
    )
    show_target(parser, ("label", "lock", "includes", "foreign", "workspace"))
    return parser
