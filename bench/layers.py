"""Measures layer making against the usual chain, side by side in one run.

The usual chain is what a Dockerfile or a tar rule does with a wheel: unpack it to disk, tar it, compress with gzip -6,
and read both files again for the two digests. mfbazel goes from the wheel to the blob and both digests in one pass, and
verifies every file against RECORD on the way.

Figures: MB/s of content (10^6 bytes of unpacked files per second of wall time, median over the rounds) and the ratio to
the usual chain. Every round runs each variant once, one wheel after another; each starts its processes anew, as a build
does; wheels come from a warm page cache. Exits with 1 when the default is not fast enough.

    python bench/layers.py WHEEL.whl ...
    python bench/layers.py --lock examples/churn/churn_flow.lock  # its five largest wheels, fetched as a build does
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mfbazel.wheel.fetch import FetchError, Wheel, fetch

GATE = 5.0
"""How many times as fast as the usual chain the default must be."""

_USUAL = "usual chain"
_DEFAULT = "zstd -3 (default)"
_VARIANTS = {
    _DEFAULT: ("--compression", "zstd"),
    "gzip, copied": ("--compression", "gzip"),
    "gzip -6": ("--compression", "gzip", "--level", "6"),
    "gzip -1": ("--compression", "gzip", "--level", "1"),
    "zstd -9": ("--compression", "zstd", "--level", "9"),
    "no compression": ("--compression", "none"),
}
_MIN_RUNS = 3


@dataclass
class Result:
    """One row of the table: wall and processor seconds of each round (summed over the wheels), bytes of all blobs."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    size: int = 0

    @property
    def median(self) -> float:
        """Median of the rounds, in seconds."""
        return statistics.median(self.seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 when the default is below the gate or a wheel cannot be had, else 0."""
    options = _parser().parse_args(arguments)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="bench-layers-", dir=options.work_dir) as scratch:
        try:
            wheels = options.wheels or _wheels_of_lock(options.lock, options.count, Path(scratch))
        except FetchError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        content = sum(_content(wheel) for wheel in wheels)
        variants = [_USUAL, *list(_VARIANTS)[: None if options.all else 2]]
        results = _measure(wheels, variants, options, Path(scratch), console)
    console.print(_table(results, wheels, content))
    ratio = results[_USUAL].median / results[_DEFAULT].median
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
    parser.add_argument("--runs", type=_runs, default=_MIN_RUNS, metavar="N", help="rounds (default and least: 3)")
    parser.add_argument("--gate", type=float, default=GATE, metavar="RATIO", help="least ratio (default: 5; 0: none)")
    parser.add_argument("--all", action="store_true", help="more compressions")
    parser.add_argument(
        "--work-dir", type=Path, metavar="DIR", help="where to write (default: the temporary directory)"
    )
    return parser


def _runs(text: str) -> int:
    if (number := int(text)) < _MIN_RUNS:
        raise argparse.ArgumentTypeError(f"at least {_MIN_RUNS} rounds are needed for a median")
    return number


def _wheels_of_lock(lock: Path, count: int, scratch: Path) -> list[Path]:
    """Fetch the ``count`` largest wheels of a lock directory into ``scratch``."""
    entries: dict[str, dict[str, Any]] = json.loads((lock / "flow.json").read_bytes())["wheels"]
    largest = sorted(entries.items(), key=lambda item: (-item[1]["size"], item[0]))[:count]
    return [
        fetch(Wheel(entry["name"], entry["version"], entry["file"], sha256), scratch / entry["file"])
        for sha256, entry in largest
    ]


def _content(wheel: Path) -> int:
    with zipfile.ZipFile(wheel) as archive:
        return sum(info.file_size for info in archive.infolist())


def _measure(
    wheels: Sequence[Path], variants: Sequence[str], options: argparse.Namespace, scratch: Path, console: Console
) -> dict[str, Result]:
    results = {variant: Result() for variant in variants}
    for wheel in wheels:
        wheel.read_bytes()
    for number in range(1, options.runs + 1):
        for variant, result in results.items():
            with console.status(f"round {number} of {options.runs}: {variant}"):
                result.seconds.append(0.0)
                result.cpu.append(-_children_cpu())
                result.size = 0
                for wheel in wheels:
                    seconds, size = _once(variant, wheel, options.python, scratch)
                    result.seconds[-1] += seconds
                    result.size += size
                result.cpu[-1] += _children_cpu()
    return results


def _children_cpu() -> float:
    """Return the processor seconds of all ended child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _once(variant: str, wheel: Path, python: str, scratch: Path) -> tuple[float, int]:
    """Make one layer in an empty directory; return seconds and bytes of the blob. Removing is not counted."""
    directory = Path(tempfile.mkdtemp(dir=scratch))
    try:
        start = time.perf_counter()
        blob = _usual(wheel, directory) if variant == _USUAL else _one_pass(variant, wheel, python, directory)
        return time.perf_counter() - start, blob.stat().st_size
    finally:
        shutil.rmtree(directory)


def _usual(wheel: Path, directory: Path) -> Path:
    unpack = f"unzip -q {shlex.quote(str(wheel.resolve()))} -d tree"
    script = f"set -e; {unpack}; tar -cf l.tar -C tree .; gzip -6 -k l.tar; sha256sum l.tar l.tar.gz"
    subprocess.run(["bash", "-c", script], cwd=directory, check=True, stdout=subprocess.DEVNULL)
    return directory / "l.tar.gz"


def _one_pass(variant: str, wheel: Path, python: str, directory: Path) -> Path:
    outputs = ["--blob", "l.tar.zst", "--descriptor", "l.json", "--files", "l.tsv"]
    command = [sys.executable, "-m", "mfbazel.layer", "wheels", "--python", python, *_VARIANTS[variant], *outputs]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)}
    subprocess.run([*command, str(wheel.resolve())], cwd=directory, env=environment, check=True)
    return directory / "l.tar.zst"


def _table(results: dict[str, Result], wheels: Sequence[Path], content: int) -> Table:
    machine = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    names = ", ".join("-".join(wheel.name.split("-")[:2]) for wheel in wheels)
    title = f"Layers of {len(wheels)} wheels, {content / 1e6:.0f} MB of content, {machine}\n{names}"
    table = Table(title=title)
    for heading in ("", "s", "min-max", "MB/s", "ratio", "CPU s", "blobs MB"):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    usual = results[_USUAL].median
    for name, result in results.items():
        table.add_row(
            name,
            f"{result.median:.2f}",
            f"{min(result.seconds):.2f}-{max(result.seconds):.2f}",
            f"{content / 1e6 / result.median:.1f}",
            f"{usual / result.median:.1f}",
            f"{statistics.median(result.cpu):.1f}",
            f"{result.size / 1e6:.1f}",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
