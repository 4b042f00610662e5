"""The command line: a lock and an image in, documents out."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mfbazel.layer.output import write_together
from mfbazel.sbom.errors import SbomError
from mfbazel.sbom.inventory import Flow, read_flow, take_inventory
from mfbazel.sbom.times import EPOCH, stamped_time

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s]+")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    Raises:
        MfbazelError: lock or image cannot be read, or do not belong together; nothing is written then.
    """
    options = _parser().parse_args(argv)
    flow = read_flow(options.lock, options.label, _repository(options.images, options.step))
    documents = {**_sboms(options, flow), **_provenance(options, flow)}
    if not documents:
        raise SbomError("nothing is asked for: give --spdx, --cyclonedx or --provenance")
    write_together({path: _bytes(document) for path, document in documents.items()})
    return 0


def _repository(images: Path | None, step: str) -> str:
    """Return where the image of ``step`` is pushed to according to ``images.json``; empty where that is not said."""
    if images is None:
        return ""
    try:
        document = json.loads(images.read_bytes())
        return document["steps"][step].get("repository") or document["repository"] or ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SbomError(f"{images} is no images.json that has the step {step} ({error!r}). Build it again.") from error


def _sboms(options: argparse.Namespace, flow: Flow) -> dict[Path, Any]:
    """Return the SBOMs that are asked for, by file; each format's library is heavy, and imported for it alone."""
    makers: dict[Path, Callable[..., Any]] = {}
    if options.spdx:
        from mfbazel.sbom.spdx_json import spdx_document

        makers[options.spdx] = spdx_document
    if options.cyclonedx:
        from mfbazel.sbom.cyclonedx_json import cyclonedx_document

        makers[options.cyclonedx] = cyclonedx_document
    if not makers:
        return {}
    inventory = take_inventory(flow, [options.step, *options.includes], options.image, options.platform)
    created = stamped_time(options.status) if options.status else EPOCH
    return {path: make(inventory, created) for path, make in makers.items()}


def _provenance(options: argparse.Namespace, flow: Flow) -> dict[Path, Any]:
    if not options.provenance:
        return {}
    if not _URI.fullmatch(options.builder_id):
        raise SbomError(
            f"--builder-id {options.builder_id}: SLSA identifies a builder by a URI; with Bazel, give one by "
            "`--@mfbazel//rules:builder_id=https://…`"
        )
    from mfbazel.sbom.provenance import provenance_statement

    built = stamped_time(options.status) if options.status else None
    steps = [options.step, *options.includes]
    statement = provenance_statement(flow, steps, options.image, options.builder_id, built)
    return {options.provenance: statement}


def _bytes(document: Any) -> bytes:
    return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mfbazel.sbom",
        description="Says what is in the image of a step (SPDX, CycloneDX) and how it was made (in-toto, SLSA).",
        fromfile_prefix_chars="@",
    )
    parser.add_argument("--lock", required=True, type=Path, metavar="FILE", help="flow.json in the lock directory")
    parser.add_argument("--label", required=True, metavar="//PKG:NAME", help="the flow's target")
    parser.add_argument("--step", required=True, metavar="NAME", help="the step whose image it is")
    parser.add_argument(
        "--includes",
        action="append",
        default=[],
        metavar="NAME",
        help="a step whose image this one is derived from, with all its packages; repeatable",
    )
    parser.add_argument("--image", required=True, type=Path, metavar="DIR", help="OCI layout of the image")
    parser.add_argument("--images", type=Path, metavar="FILE", help="images.json: says where the image is pushed to")
    parser.add_argument(
        "--platform", default="", metavar="OS/ARCH", help="which image the SBOM is of, where the layout has several"
    )
    parser.add_argument("--spdx", type=Path, metavar="OUT", help="SPDX 2.3, JSON")
    parser.add_argument("--cyclonedx", type=Path, metavar="OUT", help="CycloneDX 1.6, JSON")
    parser.add_argument("--provenance", type=Path, metavar="OUT", help="in-toto statement of all platforms, JSON")
    parser.add_argument("--builder-id", default="", metavar="URI", help="who builds; needed for --provenance")
    parser.add_argument(
        "--status", type=Path, metavar="FILE", help="Bazel's volatile status, whose BUILD_TIMESTAMP is the time"
    )
    return parser
