"""Measures what one bumped package costs: actions executed by Bazel, and bytes sent by the push.

Copies the workspace, builds and pushes the images of the churn flow through a proxy that counts, then asks for another
version of one package of one step, locks, builds and pushes again. Prints a table; exits with 1 when the bump made more
than one layer of wheels.

    ./bazelw run //bench:bump
    ./bazelw run //bench:bump -- --package pandas --version 3.1.0
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.push_rig import Counts, Proxy, find_crane, serve_registry
from bench.workspace import Workspace

_FLOW = "//examples/churn:churn_flow"
_SOURCE = Path("examples/churn/churn_flow.py")
_LAYERS = "WheelLayer"


@dataclass(frozen=True)
class Measured:
    """One build and push: actions executed by mnemonic, what the proxy counted, wall time in seconds."""

    name: str
    actions: Mapping[str, int]
    counts: Counts
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 when the bump made more than one layer of wheels, else 0."""
    options = _parser().parse_args(arguments)
    source = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", "."))
    with tempfile.TemporaryDirectory(prefix="bench-bump-") as name:
        workspace = Workspace(source, Path(name))
        try:
            results = _measure(workspace, Path(name), options)
        finally:
            workspace.close()
    _print(results)
    return 0 if results[-1].actions.get(_LAYERS, 0) == 1 else 1


def _measure(workspace: Workspace, scratch: Path, options: argparse.Namespace) -> list[Measured]:
    results = []
    store = scratch / "registry"
    store.mkdir()
    with serve_registry(find_crane(), store) as registry, Proxy(registry) as proxy:
        repository = f"{proxy.host}/bench/churn"
        for name in ("first", f"{options.package} {options.version}"):
            if name != "first":
                workspace.bump(_FLOW, _SOURCE, options.package, options.version)
            proxy.take()
            started = time.monotonic()
            actions = workspace.build(_FLOW)
            workspace.push(_FLOW, repository)
            results.append(Measured(name, actions, proxy.take(), time.monotonic() - started))
    return results


def _print(results: Sequence[Measured]) -> None:
    table = Table("build and push", *_COLUMNS)
    for result in results:
        cells = (
            str(result.actions.get(_LAYERS, 0)),
            str(result.actions.get("OCIImage", 0)),
            f"{result.counts.blob_bytes:,}",
            f"{result.counts.manifest_bytes:,}",
            str(len(result.counts.requests)),
            f"{result.seconds:.1f}",
        )
        table.add_row(result.name, *cells)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


_COLUMNS = ("wheel layers made", "images assembled", "blob bytes sent", "manifest bytes sent", "requests", "seconds")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", default="pandas", help="package of the churn flow (default: %(default)s)")
    parser.add_argument("--version", default="3.1.0", help="version to ask for (default: %(default)s)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
