"""Measures what one bumped package costs a flow of ten steps that share torch with CUDA.

Copies the workspace and adds a flow of ten steps, each with torch, a small package that all of them have, and one of
its own, so that there are ten images. Builds and pushes them through a proxy that counts; builds and pushes them with
nothing changed; then asks for another version of the small package, locks, builds and pushes again.

Exits with 1 unless the bump makes one layer of wheels and sends at most that layer and 64 KB per image, and no change
makes no layer and sends nothing. Needs about 15 GB below TMPDIR; fetches 3 GB of wheels unless the cache has them.

    ./bazelw run //bench/images:torch_bump
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.gates import Gate, verdicts
from bench.push_rig import Counts, Proxy, find_crane, serve_registry
from bench.workspace import Workspace

PER_IMAGE = 64_000
"""Bytes that each image may send besides the layer: manifest and configuration."""

_FLOW = "//bench_torch:ten_flow"
_SOURCE = Path("bench_torch/ten_flow.py")
_SMALL = ("tabulate", "0.9.0", "0.10.0")
_OWN = (
    "attrs",
    "cachetools",
    "click",
    "cloudpickle",
    "humanize",
    "more-itertools",
    "packaging",
    "rich",
    "tenacity",
    "toolz",
)
_BUILD = """\
load("//rules:defs.bzl", "metaflow_flow")

metaflow_flow(
    name = "ten_flow",
    src = "ten_flow.py",
    base = "@python_base",
    read = "static",
)
"""


@dataclass(frozen=True)
class Measured:
    """One build and push: actions executed by mnemonic, what the proxy counted, the layers of all images (digest to
    bytes), wall time in seconds."""

    name: str
    actions: Mapping[str, int]
    counts: Counts
    layers: Mapping[str, int]
    seconds: float

    @property
    def sent(self) -> int:
        """Bytes of blobs and manifests."""
        return self.counts.blob_bytes + self.counts.manifest_bytes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 when a gate is not met, else 0."""
    options = _parser().parse_args(arguments)
    source = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", "."))
    with tempfile.TemporaryDirectory(prefix="bench-torch-bump-", dir=options.work_dir) as name:
        workspace = Workspace(source, Path(name))
        try:
            results = _measure(workspace, Path(name), options)
        finally:
            workspace.close()
    gates = _gates(results)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(_table(results))
    console.print(verdicts(gates))
    return 0 if all(gate.reached for gate in gates) else 1


def _measure(workspace: Workspace, scratch: Path, options: argparse.Namespace) -> list[Measured]:
    small, version, bumped = _SMALL
    _add_flow(workspace, options.torch, version)
    workspace.bazel("run", f"{_FLOW}.lock")
    store = scratch / "registry"
    store.mkdir()
    results = []
    with serve_registry(find_crane(), store) as registry, Proxy(registry) as proxy:
        for name in ("first", "nothing changed", f"{small} {bumped}"):
            if name.startswith(small):
                workspace.bump(_FLOW, _SOURCE, small, bumped)
            proxy.take()
            started = time.monotonic()
            actions = workspace.build(_FLOW)
            workspace.push(_FLOW, f"{proxy.host}/bench/torch")
            seconds = time.monotonic() - started
            results.append(Measured(name, actions, proxy.take(), _layers(workspace), seconds))
    return results


def _add_flow(workspace: Workspace, torch: str, version: str) -> None:
    steps = ["start", *(f"part{number}" for number in range(1, len(_OWN) - 1)), "end"]
    lines = ["from metaflow import FlowSpec, pypi, step", "", "", "class TenFlow(FlowSpec):"]
    for step, after, own in zip(steps, [*steps[1:], None], _OWN, strict=True):
        packages = {"torch": torch, _SMALL[0]: version, own: ">=0"}
        lines += [
            f"    @pypi(python='3.14', packages={json.dumps(packages)})",
            "    @step",
            f"    def {step}(self):",
            f"        self.next(self.{after})" if after else "        pass",
        ]
    source = workspace.directory / _SOURCE
    source.parent.mkdir()
    source.write_text("\n".join([*lines, "", "", 'if __name__ == "__main__":', "    TenFlow()", ""]), encoding="utf-8")
    (source.parent / "BUILD.bazel").write_text(_BUILD, encoding="utf-8")


def _layers(workspace: Workspace) -> dict[str, int]:
    """Return the layers of all images, digest to bytes."""
    found: dict[str, int] = {}
    package = workspace.directory / "bazel-bin" / "bench_torch"
    for index in package.glob("_*/ten_flow.*/index.json"):
        (top,) = json.loads(index.read_bytes())["manifests"]
        manifest = json.loads((index.parent / "blobs/sha256" / top["digest"].removeprefix("sha256:")).read_bytes())
        found |= {layer["digest"]: layer["size"] for layer in manifest["layers"]}
    return found


def _gates(results: Sequence[Measured]) -> list[Gate]:
    first, unchanged, bumped = results
    new = [size for digest, size in bumped.layers.items() if digest not in first.layers]
    allowed = sum(new) + PER_IMAGE * len(_OWN)
    return [
        Gate("layers made, nothing changed", unchanged.actions.get("WheelLayer", 0), 0, "", at_most=True),
        Gate("kB sent, nothing changed", unchanged.sent / 1000, 0, "kB", at_most=True),
        Gate("layers made by the bump", bumped.actions.get("WheelLayer", 0), 1, "", at_most=True),
        Gate("new layers in the images", len(new), 1, "", at_most=True),
        Gate("kB sent by the bump", bumped.sent / 1000, allowed / 1000, "kB", at_most=True),
    ]


def _table(results: Sequence[Measured]) -> Table:
    title = f"{len(_OWN)} images that share torch, {sum(results[0].layers.values()) / 1e6:.0f} MB of layers"
    columns = ("build and push", "wheel layers made", "images assembled", "blob bytes sent", "manifest bytes sent", "s")
    table = Table(*columns, title=title)
    for result in results:
        table.add_row(
            result.name,
            str(result.actions.get("WheelLayer", 0)),
            str(result.actions.get("OCIImage", 0)),
            f"{result.counts.blob_bytes:,}",
            f"{result.counts.manifest_bytes:,}",
            f"{result.seconds:.1f}",
        )
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench/images/torch_bump.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch", default="2.14.1", metavar="VERSION", help="release of torch (default: %(default)s)")
    parser.add_argument("--work-dir", type=Path, metavar="DIR", help="where to write (default: below TMPDIR)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
