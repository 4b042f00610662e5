"""Fuzzes the static reading of flows; README.md says how.

    PYTHONPATH=. python tests/analyze/fuzz/fuzz_flows.py --seconds 60
    PYTHONPATH=. python tests/analyze/fuzz/fuzz_flows.py --replay FILE ...

With atheris, inputs that reach something new become seeds; without it, changes are made blindly. Prints runs, outcomes,
processor time and crashes; every new crash is written to a file. Exits with 1 when there is one.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import resource
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

_GIGABYTE = 1 << 30

try:
    atheris: Any = importlib.import_module("atheris")
except ImportError:
    atheris = None
else:
    with atheris.instrument_imports(include=["mfbazel"], enable_loader_override=False):
        importlib.import_module("mfbazel.analyze")
from mfbazel.analyze import syntax  # noqa: E402
from tests.analyze.fuzz.inputs import seeds  # noqa: E402
from tests.analyze.fuzz.mutate import mutate  # noqa: E402
from tests.analyze.fuzz.target import crash_of, run  # noqa: E402

_RUFF = syntax._ruff


def _no_ruff() -> None:
    """Stand for ruff where it is not installed."""


@dataclass
class Session:
    """Counts what happens, and ends the process when its time is over. ``seconds`` are of processor time."""

    seconds: float
    crashes: Path
    directory: Path
    outcomes: Counter[str] = field(default_factory=Counter)
    seen: dict[str, Path] = field(default_factory=dict)
    shown: float = 0.0

    def one(self, data: bytes) -> None:
        """Read one input."""
        # Asking another parser about what does not parse takes a process each time: once in fifty.
        syntax._ruff = _RUFF if zlib.crc32(data) % 50 == 0 else _no_ruff
        try:
            self.outcomes[run(data, self.directory)] += 1
        except Exception:
            self._crash(data)
        used = time.process_time()
        if used - self.shown > 30:
            self.show()
        if used > self.seconds:
            self.show()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1 if self.seen else 0)  # libFuzzer does not return

    def _crash(self, data: bytes) -> None:
        crash = crash_of(data, self.directory)
        if crash is None:  # it does not happen again: time or memory of the runs before
            self.outcomes["not again"] += 1
            return
        self.outcomes["crash"] += 1
        known = self.seen.get(crash.key)
        if known is not None and known.stat().st_size <= len(data):
            return
        self.crashes.mkdir(parents=True, exist_ok=True)
        if known is None:
            print(f"crash {crash.key}\n{crash.text}", flush=True)
            self.seen[crash.key] = self.crashes / f"{crash.key}-{hashlib.sha256(data).hexdigest()[:8]}.txt"
        self.seen[crash.key].write_bytes(data)

    def show(self) -> None:
        """Print a line of figures."""
        self.shown = time.process_time()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        outcomes = ", ".join(f"{name} {count}" for name, count in self.outcomes.most_common())
        print(
            f"{self.shown:.0f} s of processor time, {sum(self.outcomes.values())} runs ({outcomes}), "
            f"{len(self.seen)} kinds of crashes, peak {memory:.0f} MB",
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz, or replay inputs; return 1 when one of them crashes."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        directory = Path(name) / "input"
        if options.replay:
            return _replay(options.replay, directory)
        resource.setrlimit(resource.RLIMIT_AS, (4 * _GIGABYTE, 4 * _GIGABYTE))
        session = Session(options.seconds, options.crashes, directory)
        if atheris is None or options.blind:
            _blindly(session, options.seed)
        _guided(session, options.seed, options.corpus or Path(name) / "corpus")
    return 0


def _blindly(session: Session, seed: int) -> None:
    random, corpus = Random(seed), seeds()
    for data in corpus:
        session.one(data)
    while True:
        session.one(mutate(random.choice(corpus), random, corpus))


def _guided(session: Session, seed: int, found: Path) -> None:
    """Let libFuzzer choose what to change; it keeps in ``found`` what reached something new."""
    corpus = seeds()
    found.mkdir(parents=True, exist_ok=True)
    for data in corpus:
        (found / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)

    def change(data: bytes, largest: int, number: int) -> bytes:
        random = Random(number)
        if random.random() < 0.1:
            return bytes(atheris.Mutate(data, len(data)))
        return mutate(data, random, corpus)[:largest]

    limits = ["-max_len=40000", "-timeout=300", "-rss_limit_mb=3000", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], f"-seed={seed}", *limits, str(found)], session.one, custom_mutator=change)
    atheris.Fuzz()


def _replay(files: Sequence[Path], directory: Path) -> int:
    failed = 0
    for file in files:
        crash = crash_of(file.read_bytes(), directory)
        print(f"{file}: {crash.key if crash else 'read or refused'}")
        if crash:
            failed = 1
            print(crash.text)
    return failed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, metavar="N", help="of processor time (default: 60)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the random changes (default: 1)")
    parser.add_argument("--blind", action="store_true", help="do without atheris")
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="where atheris keeps inputs (default: nowhere)")
    parser.add_argument(
        "--crashes", type=Path, metavar="DIR", default=Path("fuzz-crashes"), help="for inputs (default: ./fuzz-crashes)"
    )
    parser.add_argument("--replay", nargs="+", type=Path, metavar="FILE", help="read these inputs instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
