"""Measures the layers of torch with all of CUDA against what a user could do instead, side by side in one run.

Every side makes what one step of examples/torch_gpu installs, 3 GB of wheels that are there already, in the page cache:

* mfbazel: the layers of the lock's plan, one after the other, in one persistent worker, as the build runs them. A round
  starts it, and its end is the round's;
* the usual chain, for the same layers, one after the other: unzip, tar, gzip -6, two runs of sha256sum;
* buildah: a Dockerfile whose one instruction is `uv pip install` of the step's requirements, hashes included, from the
  directory of wheels, then a push to an OCI layout, which compresses (gzip). Compared with mfbazel's layers and the
  assembling of the image from them.

Neither of the first two hashes the wheels again: fetching them has. Every round runs each row once; rows of the slow
sides stop after --baseline-runs. What a row leaves in the disk's queue is written before the next one begins. MB are
10^6 bytes; peak is that of the largest process of the row.

    bazel run //bench/images:cuda_layers                            # needs 25 GB of disk; an hour on two cores
    bazel run //bench/images:cuda_layers -- --baseline-runs 1       # half of it

Exits with 1 when a gate is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from uv import find_uv_bin

from bench.gates import Gate, verdicts
from bench.images.buildah import Buildah, BuildahError
from bench.layer_making import (
    MIN_RUNS,
    NOTHING,
    PLATFORM,
    USUAL,
    Layer,
    LayerWorker,
    Made,
    Result,
    Usage,
    content_of,
    fetch_wheels,
    measure,
    mfbazel_command,
    runs,
    table,
    usual_chain,
    warm,
)
from mfbazel.wheel.fetch import FetchError

GATES = {"chain": 8.0, "buildah": 3.0, "smaller": 20.0, "peak": 256.0}
"""Times as fast as the usual chain and as buildah; per cent smaller than gzip -6; MB that a layer action may need."""

_DEFAULT = "mfbazel, zstd -3"
_GZIP = "mfbazel, gzip"
_COMPRESSIONS = {_DEFAULT: "zstd", _GZIP: "gzip"}
_ASSEMBLE = "  image assembled"
_BUILDAH, _BUILD, _PUSH = "buildah", "  build", "  push"


@dataclass(frozen=True)
class Closure:
    """What one environment of a lock installs."""

    layers: tuple[Layer, ...]
    python: str
    requirements: Path
    wheels: Path
    """The directory that holds the wheels, and nothing else."""

    @property
    def files(self) -> list[Path]:
        """All wheels."""
        return [wheel for layer in self.layers for wheel in layer.wheels]


@dataclass
class Results:
    """Everything that was measured."""

    rows: dict[str, Result] = field(default_factory=dict)
    layers: dict[str, dict[str, Result]] = field(default_factory=dict)
    """The rows of each layer alone."""

    def add(self, row: str, usage: Usage, size: int = 0, *, part: bool = False) -> None:
        """Add a round to a row."""
        self.rows.setdefault(row, Result(part=part)).add(usage, size)

    def add_layers(self, row: str, layers: Sequence[Layer], made: Sequence[Made], usage: Usage) -> None:
        """Add a round in which all layers were made one after the other, which took ``usage``."""
        for layer, one in zip(layers, made, strict=True):
            self.layers.setdefault(layer.name, {}).setdefault(row, Result()).add(one.usage, one.size)
        self.add(row, usage, sum(one.size for one in made))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 when a gate is missed or something cannot be measured, else 0."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 140)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-images-", dir=options.work_dir) as scratch:
            with console.status("fetching wheels"):
                closure = _closure(options.lock, options.environment, Path(scratch))
            title, content = _title(closure, options), content_of(closure.files)
            with _buildah(options, Path(scratch)) as buildah:
                results = _measure(closure, buildah, options, Path(scratch), console)
    except (BuildahError, FetchError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"error: {error}\n{error.output or ''}", file=sys.stderr)
        return 1
    console.print(table(title, results.rows, content))
    if options.details:
        console.print(_details(results))
    gates = _gates(results, GATES | dict(options.gate))
    console.print(verdicts(gates))
    return 0 if all(gate.reached for gate in gates) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench/images/cuda_layers.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lock", required=True, type=Path, metavar="DIR", help="lock directory")
    parser.add_argument("--environment", default="train", metavar="NAME", help="environment of it (default: train)")
    parser.add_argument("--base", required=True, type=Path, metavar="DIR", help="OCI layout of the base image")
    parser.add_argument("--runs", type=runs, default=MIN_RUNS, metavar="N", help="rounds (default and least: 3)")
    parser.add_argument(
        "--baseline-runs", type=int, metavar="N", help="rounds of the usual chain and of buildah (default: all)"
    )
    parser.add_argument(
        "--skip", action="append", default=[], choices=("chain", "buildah", "gzip"), help="do not measure; repeatable"
    )
    parser.add_argument(
        "--gate",
        action="append",
        type=_gate,
        default=[],
        metavar="NAME=NUMBER",
        help=f"another limit; default: {', '.join(f'{name}={limit:g}' for name, limit in GATES.items())}",
    )
    parser.add_argument("--details", action="store_true", help="also print every layer")
    parser.add_argument(
        "--work-dir", type=Path, metavar="DIR", help="where to write (default: the temporary directory)"
    )
    return parser


def _gate(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    if name not in GATES:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(GATES)}")
    return name, float(number)


def _closure(lock: Path, environment: str, scratch: Path) -> Closure:
    """Fetch the wheels of an environment, and put them into the layers of the lock's plan."""
    content: dict[str, Any] = json.loads((lock / "flow.json").read_bytes())
    hashes = content["environments"][environment]["wheels"][PLATFORM]
    directory = scratch / "wheels"
    directory.mkdir()
    paths = fetch_wheels([(sha256, content["wheels"][sha256]) for sha256 in hashes], directory)
    by_hash = dict(zip(hashes, paths, strict=True))
    layers = tuple(
        Layer(layer["name"], tuple(by_hash[sha256] for sha256 in layer["wheels"]))
        for layer in content["layers"][PLATFORM]
        if environment in layer["environments"]
    )
    python = content["environments"][environment]["python"]
    return Closure(layers, python, lock / content["environments"][environment]["file"], directory)


@contextlib.contextmanager
def _buildah(options: argparse.Namespace, scratch: Path) -> Iterator[Buildah | None]:
    """Yield a builder that has the base, or nothing where it is not wanted."""
    if "buildah" in options.skip:
        yield None
        return
    directory = scratch / "buildah"
    directory.mkdir()
    buildah = Buildah(directory)
    try:
        buildah.take_base(options.base)
        yield buildah
    finally:
        buildah.close()


def _measure(
    closure: Closure, buildah: Buildah | None, options: argparse.Namespace, scratch: Path, console: Console
) -> Results:
    results = Results()
    ours: dict[str, Callable[[], None]] = {
        row: partial(_our_round, row, closure, options.base, scratch, results)
        for row, compression in _COMPRESSIONS.items()
        if compression not in options.skip
    }
    baseline: dict[str, Callable[[], None]] = {}
    if "chain" not in options.skip:
        baseline[USUAL] = partial(_chain_round, closure, scratch, results)
    if buildah:
        baseline[_BUILDAH] = partial(_buildah_round, closure, buildah, results)
    for number in range(1, options.runs + 1):
        slow = options.baseline_runs is None or number <= options.baseline_runs
        for row, once in (ours | baseline if slow else ours).items():
            text = f"round {number} of {options.runs}: {row}"
            with console.status(text):
                os.sync()  # nobody else's output is written meanwhile
                warm(closure.files)
                once()
            console.print(f"{text}: {results.rows[row].rounds[-1].seconds:.1f} s")
    order = [*_COMPRESSIONS, _ASSEMBLE, USUAL, _BUILDAH, _BUILD, _PUSH]
    results.rows = {row: results.rows[row] for row in order if row in results.rows}
    return results


def _our_round(row: str, closure: Closure, base: Path, scratch: Path, results: Results) -> None:
    """Make all layers, and, once they are there, the image."""
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        made = []
        with LayerWorker(closure.python, ["--compression", _COMPRESSIONS[row]]) as worker:
            for number, layer in enumerate(closure.layers):
                place = Path(directory, str(number))
                place.mkdir()
                made.append(worker.make(layer, place))
            results.add_layers(row, closure.layers, made, worker.end())
        if row == _DEFAULT:
            results.add(_ASSEMBLE, _assemble(made, base, Path(directory)), part=True)


def _assemble(made: Sequence[Made], base: Path, directory: Path) -> Usage:
    layers = [f"--layer={layer.blob}={layer.descriptor}" for layer in made]
    options = [f"--output={directory / 'image'}", f"--base={base.resolve()}", "--env=PATH=/opt/venv/bin:$PATH"]
    command, environment = mfbazel_command("image", "assemble", *options, *layers)
    return measure(command, directory, environment)


def _chain_round(closure: Closure, scratch: Path, results: Results) -> None:
    made = []
    for layer in closure.layers:
        with tempfile.TemporaryDirectory(dir=scratch) as directory:
            made.append(usual_chain(layer, Path(directory)))
    results.add_layers(USUAL, closure.layers, made, sum((one.usage for one in made), NOTHING))


def _buildah_round(closure: Closure, buildah: Buildah, results: Results) -> None:
    built = buildah.build(Path(find_uv_bin()), closure.wheels, closure.requirements)
    pushed, size = buildah.push()
    buildah.remove_image()
    results.add(_BUILDAH, built + pushed, size)
    results.add(_BUILD, built, part=True)
    results.add(_PUSH, pushed, part=True)


def _title(closure: Closure, options: argparse.Namespace) -> str:
    packed = sum(wheel.stat().st_size for wheel in closure.files)
    several = "" if options.baseline_runs is None else "; what is compared with was run less often, see `runs`"
    return (
        f"{len(closure.files)} wheels of {packed / 1e6:.0f} MB in {len(closure.layers)} layers, "
        f"{options.lock.name}: {options.environment}{several}"
    )


def _details(results: Results) -> Table:
    """Return a table of the layers: seconds (medians) and MB of the blob of each row that made them."""
    rows = [row for row in results.rows if row in (*_COMPRESSIONS, USUAL)]
    details = Table("layer", *(f"{row}\n{unit}" for row in rows for unit in ("s", "MB")))
    for column in details.columns[1:]:
        column.justify = "right"
    for name, made in results.layers.items():
        details.add_row(name, *(cell for row in rows for cell in _cells(made[row])))
    return details


def _cells(result: Result) -> tuple[str, str]:
    return f"{result.median:.2f}", f"{result.size / 1e6:.1f}"


def _gates(results: Results, limits: dict[str, float]) -> list[Gate]:
    """Return what the rows that were measured allow to say."""
    rows = results.rows
    ours = rows[_DEFAULT]
    peak = max(rows[row].peak for row in _COMPRESSIONS if row in rows) / 1e6
    gates = [Gate("most memory of a process that makes layers", peak, limits["peak"], "MB", at_most=True)]
    if USUAL in rows:
        chain = rows[USUAL]
        ratio = chain.median / ours.median
        gates.append(Gate("layers, against the usual chain", ratio, limits["chain"], "times as fast"))
        smaller = 100 - 100 * ours.size / chain.size
        gates.append(Gate("size of the layers, against gzip -6", smaller, limits["smaller"], "% smaller"))
    if _BUILDAH in rows:
        ratio = rows[_BUILDAH].median / (ours.median + rows[_ASSEMBLE].median)
        gates.append(Gate("image, against buildah", ratio, limits["buildah"], "times as fast"))
    return gates


if __name__ == "__main__":
    sys.exit(main())
