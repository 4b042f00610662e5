"""A session of fuzzing: inputs are changed, read, and kept where they reach something new or fail."""

from __future__ import annotations

import hashlib
import importlib
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import CodeType
from typing import Any

from fuzz.limit import limited
from fuzz.targets.target import Target

SECONDS = 5.0
"""Processor time that reading one input may take."""

_SHOW_SECONDS = 30
_LONGEST = 200_000
_MEMORY = 3 << 30


@dataclass(frozen=True)
class Finding:
    """What went wrong with an input. ``key`` is the same for inputs that fail alike."""

    key: str
    text: str


def finding(target: Target, data: bytes) -> tuple[str, Finding | None]:
    """Read ``data``; return the outcome, and what went wrong, or ``None``."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory if memory.is_dir() else None) as name:
        try:
            with limited(SECONDS):
                return target.run(data, Path(name)), None
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            place = _place(error)
            text = "".join(traceback.format_exception(error, limit=-12))
            return "finding", Finding(f"{type(error).__name__}-{place}", text[-6_000:])


def _place(error: BaseException) -> str:
    """Return where an input failed: the property, or the last function of ours."""
    frames = traceback.extract_tb(error.__traceback__)
    if type(error).__name__ == "BrokenError":  # its module may have been imported twice
        return f"{frames[-2].name}.{frames[-2].lineno}"
    own = [frame for frame in frames if "/mfbazel/" in frame.filename] or frames
    return f"{Path(own[-1].filename).stem}.{own[-1].name}"


@dataclass
class Session:
    """Counts what happens, and ends the process when its time is over. ``seconds`` are of processor time."""

    name: str
    target: Target
    seconds: float
    findings: Path
    outcomes: Counter[str] = field(default_factory=Counter)
    seen: dict[str, Path] = field(default_factory=dict)
    shown: float = 0.0

    def one(self, data: bytes) -> None:
        """Read one input."""
        outcome, found = finding(self.target, data)
        self.outcomes[outcome] += 1
        if found:
            self._keep(found, data)
        used = time.process_time()
        if used - self.shown > _SHOW_SECONDS:
            self.show()
        if used > self.seconds:
            self.show()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1 if self.seen else 0)  # libFuzzer does not return

    def _keep(self, found: Finding, data: bytes) -> None:
        """Keep the smallest input of each kind."""
        known = self.seen.get(found.key)
        if known is not None and known.stat().st_size <= len(data):
            return
        self.findings.mkdir(parents=True, exist_ok=True)
        if known is None:
            print(f"finding {found.key}\n{found.text}", flush=True)
            self.seen[found.key] = self.findings / f"{self.name}-{found.key}-{hashlib.sha256(data).hexdigest()[:8]}"
        self.seen[found.key].write_bytes(data)

    def show(self) -> None:
        """Print a line of figures."""
        self.shown = time.process_time()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        outcomes = ", ".join(f"{name} {count}" for name, count in self.outcomes.most_common())
        print(
            f"{self.name}: {self.shown:.0f} s of processor time, {sum(self.outcomes.values())} inputs ({outcomes}), "
            f"{len(self.seen)} kinds of findings, peak {memory:.0f} MB",
            flush=True,
        )

    def blindly(self, seed: int, corpus: Iterable[bytes]) -> None:
        """Change inputs without knowing what they reach."""
        random, known = Random(seed), list(corpus)
        for data in known:
            self.one(data)
        while True:
            self.one(_changed(self.target, random.choice(known), random))

    def guided(self, seed: int, corpus: Path, atheris: Any) -> None:
        """Let libFuzzer choose what to change; it keeps in ``corpus`` what reaches something new."""

        def change(data: bytes, largest: int, number: int) -> bytes:
            random = Random(number)
            if self.target.mutate is None or random.random() < 0.2:
                return bytes(atheris.Mutate(data, len(data)))
            return self.target.mutate(data, random)[:largest]

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        limits = [f"-max_len={_LONGEST}", "-timeout=300", "-rss_limit_mb=2000", f"-seed={seed}"]
        atheris.Setup([sys.argv[0], *limits, str(corpus)], self.one, custom_mutator=change)
        atheris.Fuzz()


def minimise(target: Target, corpus: Path, out: Path) -> int:
    """Copy the inputs of ``corpus`` to ``out`` that reach a line or a branch which no smaller one reaches.

    Returns:
        their number.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    seen: set[object] = set()
    kept = 0
    for data in sorted((file.read_bytes() for file in corpus.iterdir()), key=lambda data: (len(data), data)):
        reached = _reached(target, data)
        if not reached <= seen:
            seen |= reached
            out.joinpath(hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
            kept += 1
    return kept


def _reached(target: Target, data: bytes) -> set[object]:
    """Return the outcome of an input, and the lines and branches of mfbazel that it reaches."""
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined, unused-ignore]  # Python 3.12
    events, reached = monitoring.events, set[object]()

    def note(code: CodeType, *where: int) -> Any:
        if "/mfbazel/" not in code.co_filename:
            return monitoring.DISABLE
        reached.add((code, *where))
        return None

    chosen = (events.LINE, events.BRANCH_LEFT, events.BRANCH_RIGHT)
    monitoring.use_tool_id(monitoring.COVERAGE_ID, "fuzz")
    try:
        for event in chosen:
            monitoring.register_callback(monitoring.COVERAGE_ID, event, note)
        monitoring.set_events(monitoring.COVERAGE_ID, sum(chosen))
        reached.add(finding(target, data)[0])
    finally:
        monitoring.free_tool_id(monitoring.COVERAGE_ID)
    return reached


def instrumented(target: str, atheris: Any) -> None:
    """Import what a target runs so that libFuzzer sees what it reaches."""
    modules = importlib.import_module(f"fuzz.targets.{target}").TARGET.modules
    for name in [name for name in sys.modules if name.partition(".")[0] in ("mfbazel", "fuzz", "tests")]:
        if name != __name__:
            del sys.modules[name]
    with atheris.instrument_imports(include=list(modules), enable_loader_override=False):
        importlib.import_module(f"fuzz.targets.{target}")


def _changed(target: Target, data: bytes, random: Random) -> bytes:
    if target.mutate and random.random() < 0.9:
        return target.mutate(data, random)
    out = bytearray(data)
    for _ in range(random.randint(1, 4)):
        if out:
            out[random.randrange(len(out))] = random.randrange(256)
    return bytes(out)
