"""Measures layer making against the usual chain, side by side in one run.

The usual chain is what a Dockerfile or a tar rule does with a wheel: unpack it to disk, tar it, compress with gzip -6,
and read both files again for the two digests. mfbazel goes from the wheel to the blob and both digests in one pass, and
verifies every file against RECORD on the way.

Figures: MB/s of content (10^6 bytes of unpacked files per second of wall time, median over the rounds) and the ratio to
the usual chain. Every round runs each variant once, one wheel after another; mfbazel's tool as a build runs it, one
persistent worker that the round starts; wheels come from a warm page cache. Exits with 1 when the default is not fast
enough.

    python bench/layers.py WHEEL.whl ...
    python bench/layers.py --lock examples/churn/churn_flow.lock  # its five largest wheels, fetched as a build does
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.layer_making import (
    MIN_RUNS,
    NOTHING,
    USUAL,
    Layer,
    LayerWorker,
    Result,
    Usage,
    content_of,
    fetch_wheels,
    runs,
    table,
    usual_chain,
    warm,
)
from mfbazel.wheel.fetch import FetchError

GATE = 5.0
"""How many times as fast as the usual chain the default must be."""

_DEFAULT = "zstd -3 (default)"
_VARIANTS = {
    _DEFAULT: ("--compression", "zstd"),
    "gzip, copied": ("--compression", "gzip"),
    "gzip -6": ("--compression", "gzip", "--level", "6"),
    "gzip -1": ("--compression", "gzip", "--level", "1"),
    "zstd -9": ("--compression", "zstd", "--level", "9"),
    "no compression": ("--compression", "none"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 when the default is below the gate or a wheel cannot be had, else 0."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    with tempfile.TemporaryDirectory(prefix="bench-layers-", dir=options.work_dir) as scratch:
        try:
            wheels = options.wheels or _wheels_of_lock(options.lock, options.count, Path(scratch))
        except FetchError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        content = content_of(wheels)
        variants = [USUAL, *list(_VARIANTS)[: None if options.all else 2]]
        results = _measure(wheels, variants, options, Path(scratch), console)
    names = ", ".join("-".join(wheel.name.split("-")[:2]) for wheel in wheels)
    console.print(table(f"Layers of {len(wheels)} wheels: {names}", results, content))
    ratio = results[USUAL].median / results[_DEFAULT].median
    if ratio < options.gate:
        console.print(f"{_DEFAULT}: {ratio:.1f} times as fast as the usual chain; {options.gate:g} times is required")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench/layers.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("wheels", nargs="*", type=Path, default=[], metavar="WHEEL.whl")
    source.add_argument("--lock", type=Path, metavar="DIR", help="lock directory: measure its largest wheels")
    parser.add_argument("--count", type=int, default=5, metavar="N", help="wheels to take from the lock (default: 5)")
    parser.add_argument("--python", default="3.14", metavar="X.Y", help="what the wheels are for (default: 3.14)")
    parser.add_argument("--runs", type=runs, default=MIN_RUNS, metavar="N", help="rounds (default and least: 3)")
    parser.add_argument("--gate", type=float, default=GATE, metavar="RATIO", help="least ratio (default: 5; 0: none)")
    parser.add_argument("--all", action="store_true", help="more compressions")
    parser.add_argument(
        "--work-dir", type=Path, metavar="DIR", help="where to write (default: the temporary directory)"
    )
    return parser


def _wheels_of_lock(lock: Path, count: int, scratch: Path) -> list[Path]:
    """Fetch the ``count`` largest wheels of a lock directory into ``scratch``."""
    entries: dict[str, dict[str, Any]] = json.loads((lock / "flow.json").read_bytes())["wheels"]
    return fetch_wheels(sorted(entries.items(), key=lambda item: (-item[1]["size"], item[0]))[:count], scratch)


def _measure(
    wheels: Sequence[Path], variants: Sequence[str], options: argparse.Namespace, scratch: Path, console: Console
) -> dict[str, Result]:
    results = {variant: Result() for variant in variants}
    warm(wheels)
    for number in range(1, options.runs + 1):
        for variant, result in results.items():
            with console.status(f"round {number} of {options.runs}: {variant}"):
                usage, size = _round(variant, wheels, options.python, scratch)
            result.add(usage, size)
    return results


def _round(variant: str, wheels: Sequence[Path], python: str, scratch: Path) -> tuple[Usage, int]:
    """Make each wheel's layer in a directory of its own; return what that took, and the size of all layers.

    Removing is not counted.
    """
    made = []
    with contextlib.ExitStack() as stack:
        worker = stack.enter_context(LayerWorker(python, _VARIANTS.get(variant, ())))
        for wheel in wheels:
            layer = Layer(wheel.name, (wheel,))
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=scratch)))
            made.append(usual_chain(layer, directory) if variant == USUAL else worker.make(layer, directory))
        usage = sum((one.usage for one in made), NOTHING) if variant == USUAL else worker.end()
    return usage, sum(one.size for one in made)


if __name__ == "__main__":
    sys.exit(main())
