"""Fuzzes what reads foreign input; README.md says how.

    PYTHONPATH=. python fuzz/run.py wheel --seconds 600
    PYTHONPATH=. python fuzz/run.py wheel --replay FILE ...

With atheris, inputs that reach something new become seeds; without it, changes are made blindly. Prints inputs,
outcomes, processor time and findings; each kind of finding is written to a file. Exits with 1 when there is one.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fuzz.session import Session, finding, instrumented, minimise
from fuzz.targets.target import Target

TARGETS = ("flow", "layout", "lock", "metadata", "names", "registry", "tar", "wheel")
CORPUS = Path(__file__).resolve().parent / "corpus"


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz, or replay inputs; return 1 when there is a finding."""
    options = _parser().parse_args(arguments)
    os.chdir(os.environ.get("BUILD_WORKING_DIRECTORY", "."))
    if options.replay:
        return _replay(_target(options.target), options.replay)
    if options.minimise and options.corpus:
        print(f"{minimise(_target(options.target), options.corpus, options.minimise)} inputs are kept")
        return 0
    atheris = None if options.blind else _atheris()
    if atheris:
        instrumented(options.target, atheris)
    target = _target(options.target)
    kept = CORPUS / options.target
    with tempfile.TemporaryDirectory(prefix="fuzz-corpus-") as name:
        corpus = options.corpus or Path(name)
        corpus.mkdir(parents=True, exist_ok=True)
        inputs = [*target.seeds(), *(file.read_bytes() for file in sorted(kept.glob("*")))]
        for data in inputs:
            (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
        session = Session(options.target, target, options.seconds, options.findings)
        if atheris:
            session.guided(options.seed, corpus, atheris)
        else:
            session.blindly(options.seed, (file.read_bytes() for file in sorted(corpus.iterdir())))
    return 0


def _atheris() -> Any:
    try:
        return importlib.import_module("atheris")
    except ImportError:
        print("atheris is not installed: changes are made blindly", file=sys.stderr)
        return None


def _target(name: str) -> Target:
    found: Target = importlib.import_module(f"fuzz.targets.{name}").TARGET
    return found


def _replay(target: Target, files: Sequence[Path]) -> int:
    failed = 0
    for file in files:
        outcome, found = finding(target, file.read_bytes())
        print(f"{file}: {found.key if found else outcome}")
        if found:
            failed = 1
            print(found.text)
    return failed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=float, default=60, metavar="N", help="of processor time (default: 60)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the random changes (default: 1)")
    parser.add_argument("--blind", action="store_true", help="do without atheris")
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="where atheris keeps inputs (default: nowhere)")
    parser.add_argument(
        "--findings", type=Path, metavar="DIR", default=Path("fuzz-findings"), help="for inputs that fail"
    )
    parser.add_argument("--minimise", type=Path, metavar="DIR", help="write the inputs of --corpus that matter there")
    parser.add_argument("--replay", nargs="+", type=Path, metavar="FILE", help="read these inputs instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
