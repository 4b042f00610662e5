"""``python -m mfbazel.push``: push images of flows, promote them, load them, look after the embedded registry."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mfbazel.errors import run_front
from mfbazel.push.all_command import add_all
from mfbazel.push.embedded import EmbeddedRegistry, find_crane
from mfbazel.push.flow import push_flows
from mfbazel.push.load import load_images
from mfbazel.push.options import add_crane, add_sending, add_store, in_working_directory, settings_of, store_of
from mfbazel.push.prepare import FlowPush
from mfbazel.push.promote_command import add_promote
from mfbazel.push.report import Reporter
from mfbazel.sign.arguments import add_signer, signer_options
from mfbazel.state import workspace_dir
from mfbazel.usage import show_target


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the front on ``arguments`` (default: the process's); return the exit code.

    Raises:
        PushError: see :func:`mfbazel.push.push_flow`, :func:`mfbazel.push.load_images`.
        StateError: there is no workspace, or the label is none.
    """
    options = _parser().parse_args(arguments)
    return int(options.run(options))


def _flow(options: argparse.Namespace) -> int:
    """``flow``."""
    request = FlowPush(
        images=options.images,
        layouts=_by_step(options),
        workspace=options.workspace or workspace_dir(),
        store=store_of(options),
        crane=options.crane,
        repository=options.repository,
        label=options.label,
        output=options.output and in_working_directory(options.output),
        tags=options.tag,
        artifact=options.artifact,
        sign=None if options.no_sign else options.sign,
        sign_options={} if options.no_sign else signer_options(options),
        attach=options.attach,
    )
    reporter = Reporter(results=not options.json)
    with reporter.failures_as_json(options.json):
        pushed = push_flows([request], settings_of(options), reporter)
    if options.json:
        reporter.print_json(pushed.as_json())
    if error := pushed.flows[0].error:
        raise error
    return 0


def _load(options: argparse.Namespace) -> int:
    """``load``."""
    load_images(_by_step(options), options.loader, options.tag, Reporter())
    return 0


def _registry(options: argparse.Namespace) -> int:
    """``registry``: prints one line; ``--status`` exits with 1 when none runs."""
    registry = EmbeddedRegistry(store_of(options))
    if options.action == "start":
        ensured = registry.ensure(find_crane(options.crane))
        Reporter().embedded(ensured, registry.store)
        return 0
    running = registry.stop() if options.action == "stop" else registry.status()
    if not running:
        print(f"no embedded registry runs on {registry.store}")
        return 0 if options.action == "stop" else 1
    did = "stopped" if options.action == "stop" else "runs"
    print(f"the embedded registry on {running.host} (process {running.pid}, store {registry.store}) {did}")
    return 0


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m mfbazel.push", description=__doc__, fromfile_prefix_chars="@")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_flow(commands)
    add_all(commands)
    add_promote(commands)
    _add_load(commands)
    _add_registry(commands)
    return parser


def _add_flow(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    flow = commands.add_parser("flow", help="push all step images of a flow and record step → repository@digest")
    flow.set_defaults(run=_flow)
    flow.add_argument("--images", type=Path, required=True, help="the build's images.json")
    _add_image(flow)
    add_crane(flow)
    flow.add_argument(
        "--repository", help="host[:port]/path for all steps, no template; instead of what images.json says"
    )
    flow.add_argument("--label", help="the flow's Bazel label; instead of what images.json says")
    flow.add_argument("--output", type=Path, metavar="FILE", help="write a copy of the record here")
    flow.add_argument("--tag", action="append", default=[], metavar="T", help="tag each step's image <step>-T as well")
    flow.add_argument(
        "--no-artifact", dest="artifact", action="store_false", help="do not publish images.json beside the images"
    )
    flow.add_argument(
        "--workspace", type=Path, help="the Bazel workspace (default: $BUILD_WORKSPACE_DIRECTORY, or around here)"
    )
    flow.add_argument(
        "--attach",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="an SBOM or a provenance statement; becomes a referrer of the image that it is about; repeat",
    )
    add_signer(flow, "who signs images, what is attached, and images.json")
    add_sending(flow)
    add_store(flow)
    show_target(flow, ("images", "image", "crane", "label", "workspace", "attach"))


def _add_load(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    load = commands.add_parser("load", help="load step images into a local container engine")
    load.set_defaults(run=_load)
    _add_image(load)
    load.add_argument("--loader", default="auto", help="podman, docker, or a path of one (default: auto)")
    load.add_argument("--tag", required=True, metavar="NAME", help="step images become NAME:<step>")
    show_target(load, ("image",))


def _add_registry(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    registry = commands.add_parser("registry", help="the embedded registry on loopback")
    registry.set_defaults(run=_registry)
    action = registry.add_mutually_exclusive_group(required=True)
    for name in ("status", "start", "stop"):
        action.add_argument(f"--{name}", dest="action", action="store_const", const=name)
    add_crane(registry)
    add_store(registry)


def _add_image(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image",
        action="append",
        required=True,
        type=_step,
        metavar="STEP=LAYOUT_DIR",
        help="a step's OCI layout; repeat",
    )


def _step(argument: str) -> tuple[str, Path]:
    """Split ``step=directory``."""
    step, equals, path = argument.partition("=")
    if not (step and equals and path):
        raise argparse.ArgumentTypeError(f"{argument!r} is not STEP=LAYOUT_DIR")
    return step, Path(path)


def _by_step(options: argparse.Namespace) -> dict[str, Path]:
    """Return the --image options by step; one given twice is wrong usage."""
    layouts: dict[str, Path] = {}
    for step, path in options.image:
        if step in layouts:
            _parser().error(f"--image names the step {step!r} twice")
        layouts[step] = path
    return layouts


if __name__ == "__main__":
    run_front(main)
