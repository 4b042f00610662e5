"""Options that several commands of ``mfbazel.push`` take, and what they mean."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mfbazel.push.flow import Settings
from mfbazel.state import cache_dir


def add_sending(parser: argparse.ArgumentParser) -> None:
    """Add what says how to push."""
    parser.add_argument("--dry-run", action="store_true", help="send nothing; say what would be sent, and where to")
    parser.add_argument("--json", action="store_true", help="print what was done as JSON on standard output")
    parser.add_argument(
        "--jobs", type=positive, default=Settings.jobs, metavar="N", help="requests at once (default: %(default)s)"
    )
    parser.add_argument(
        "--chunk",
        type=positive,
        metavar="MB",
        help="send blobs in requests of at most this many MiB, as the type of "
        "the registry allows; whole ones survive an interruption (default: what the type says, mostly 32)",
    )
    parser.add_argument(
        "--create-repositories", action="store_true", help="make repositories that a registry wants to exist before"
    )
    parser.add_argument("--insecure", action="store_true", help="allow plain HTTP and unverifiable certificates")


def settings_of(options: argparse.Namespace) -> Settings:
    """Return how to push, as the options of :func:`add_sending` say."""
    return Settings(
        insecure=options.insecure,
        jobs=options.jobs,
        chunk=options.chunk and options.chunk << 20,
        create=options.create_repositories,
        dry_run=options.dry_run,
    )


def positive(argument: str) -> int:
    """Read a number above 0."""
    if not argument.isdecimal() or int(argument) < 1:
        raise argparse.ArgumentTypeError(f"{argument!r} is not a number above 0")
    return int(argument)


def add_crane(parser: argparse.ArgumentParser) -> None:
    """Add the option that names crane."""
    parser.add_argument(
        "--crane", metavar="PATH", help="the crane that serves the embedded registry (default: crane on PATH)"
    )


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the option that says where the embedded registry is."""
    parser.add_argument(
        "--registry-store", type=Path, metavar="DIR", help="the embedded registry's directory (default: in the cache)"
    )


def store_of(options: argparse.Namespace) -> Path:
    """Return the embedded registry's directory."""
    told: Path | None = options.registry_store
    return told or cache_dir() / "registry"


def in_working_directory(path: Path) -> Path:
    """Resolve a relative ``path`` against the directory in which the person typed ``bazel run``."""
    return Path(os.environ.get("BUILD_WORKING_DIRECTORY", ".")) / path
