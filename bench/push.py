"""Measures pushes of a flow's images: requests made, bytes sent, wall time.

Four pushes through the product's command line, one after the other, to a registry on loopback behind a proxy that
counts: the first one, a second one with nothing changed, one with one layer of one step bumped, and one more after the
record was lost. Prints a table; exits with 1 when the second push sent any byte.

    python bench/push.py                                  # synthetic: 5 steps, 4 layers each, 3 of them shared
    python bench/push.py --layout train=DIR --layout start=DIR
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.push_rig import (
    Counts,
    Proxy,
    find_crane,
    random_content,
    serve_registry,
    write_images_json,
    write_layout,
)

_LABEL = "//bench:push"
_SHARED_LAYERS = 3


@dataclass(frozen=True)
class Measured:
    """One push: what it was, what the proxy counted, wall time in seconds."""

    name: str
    counts: Counts
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 when an unchanged push sent bytes, else 0."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-push-") as scratch:
        results = _measure(options, Path(scratch))
    _print(results)
    unchanged = next(result for result in results if result.name.startswith("unchanged"))
    return 1 if unchanged.counts.blob_bytes or unchanged.counts.manifest_bytes else 0


def _measure(options: argparse.Namespace, scratch: Path) -> list[Measured]:
    """Make the layouts if need be, and push them."""
    crane = Path(options.crane).absolute() if options.crane else find_crane()
    layouts = dict(options.layout) or _synthetic(scratch / "layouts", options.steps, options.megabytes)
    with serve_registry(crane, scratch / "disk") as registry, Proxy(registry) as proxy:
        bench = _Bench(scratch, crane, proxy)
        results = [bench.push("first push", layouts)]
        again = [bench.push("unchanged", layouts) for _ in range(options.runs)]
        median = statistics.median(result.seconds for result in again)
        results.append(Measured(f"unchanged (median of {options.runs})", again[0].counts, median))
        if not options.layout:
            results.append(bench.push("one layer of one step bumped", _bumped(layouts, scratch, options.megabytes)))
            bench.push("", layouts)
            proxy.take()
        bench.forget()
        results.append(bench.push("unchanged, record lost", layouts))
    return results


class _Bench:
    """Pushes through the command line."""

    def __init__(self, scratch: Path, crane: Path, proxy: Proxy) -> None:
        self._scratch, self._crane, self._proxy = scratch, crane, proxy
        self._environ = {**os.environ, "MFBAZEL_STATE_DIR": str(scratch / "state")}
        self._environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)

    def push(self, name: str, layouts: Mapping[str, Path]) -> Measured:
        """Push ``layouts``."""
        repository = f"{self._proxy.host}/bench/push"
        digests = {step: _digest_of(layout) for step, layout in layouts.items()}
        images = write_images_json(self._scratch / "images.json", digests, repository, _LABEL)
        command = [sys.executable, "-m", "mfbazel.push", "flow", "--images", str(images), "--crane", str(self._crane)]
        command += ["--workspace", str(self._scratch)]
        command += [f"--image={step}={layout}" for step, layout in layouts.items()]
        self._proxy.take()
        began = time.perf_counter()
        subprocess.run(command, check=True, env=self._environ, capture_output=True)
        return Measured(name, self._proxy.take(), time.perf_counter() - began)

    def forget(self) -> None:
        """Remove the record of the last push."""
        for record in (self._scratch / "state").rglob("images.json"):
            record.unlink()


def _synthetic(directory: Path, steps: int, megabytes: float) -> dict[str, Path]:
    """Write layouts of ``steps`` steps with shared layers and one of their own, each of ``megabytes`` MB."""
    size = int(megabytes * 1e6)
    shared = {f"shared-{number}": random_content(f"shared-{number}", size) for number in range(_SHARED_LAYERS)}
    layouts = {}
    for number in range(steps):
        step = f"step{number}"
        layouts[step] = directory / step
        write_layout(layouts[step], {**shared, f"own-{number}": random_content(step, size)})
    return layouts


def _bumped(layouts: Mapping[str, Path], scratch: Path, megabytes: float) -> dict[str, Path]:
    """Return ``layouts`` with another top layer in the first step."""
    size = int(megabytes * 1e6)
    shared = {f"shared-{number}": random_content(f"shared-{number}", size) for number in range(_SHARED_LAYERS)}
    step = next(iter(layouts))
    write_layout(scratch / "bumped", {**shared, "own-0": random_content("bumped", size)})
    return {**layouts, step: scratch / "bumped"}


def _digest_of(layout: Path) -> str:
    """Return the digest of the image in a layout."""
    return str(json.loads((layout / "index.json").read_bytes())["manifests"][0]["digest"])


def _print(results: Sequence[Measured]) -> None:
    """Print the table."""
    table = Table("push", "requests", "of them uploads", "bytes of blobs sent", "of manifests", "seconds")
    for column in table.columns[1:]:
        column.justify = "right"
    for result in results:
        counts = result.counts
        uploads = counts.of("POST", "/blobs/uploads/")
        row = (len(counts.requests), uploads, f"{counts.blob_bytes:,}", f"{counts.manifest_bytes:,}")
        table.add_row(result.name, *map(str, row), f"{result.seconds:.2f}")
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", action="append", default=[], type=_step, metavar="STEP=DIR", help="a step's layout")
    parser.add_argument("--steps", type=int, default=5, help="synthetic steps (default: %(default)s)")
    parser.add_argument("--megabytes", type=float, default=20, help="size of a synthetic layer (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="unchanged pushes (default: %(default)s)")
    parser.add_argument("--crane", help="the crane program (default: $MFBAZEL_TEST_CRANE, else crane on PATH)")
    return parser


def _step(argument: str) -> tuple[str, Path]:
    """Split ``step=directory``."""
    step, equals, path = argument.partition("=")
    if not (step and equals and path):
        raise argparse.ArgumentTypeError(f"{argument!r} is not STEP=DIR")
    return step, Path(path).absolute()


if __name__ == "__main__":
    raise SystemExit(main())
