"""Measures what assembling an image of many layers costs once the layers exist: the native assembler against rules_oci.

In a workspace of its own with two images of the same layers, first a label is changed, so that the image is all there
is to make, then one of the layers. What is compared is the wall time of the actions that an assembler runs, from
Bazel's execution log: the image, and for rules_oci the descriptor of the layer, which it reads again for that (the
native one has it from whatever made the layer). Beside it stands the wall time of the whole `bazel build` less that of
one that finds nothing to do. Medians; exits with 1 when the native assembler is not ten times as fast.

    ./bazelw run //bench:assemblers

In the toolbox rules_oci is a module over the native assembler unless checkouts of the real one are given
(docs/design/rules_oci.md): then nothing is compared. With checkouts there, regctl, which rules_oci starts a few times
per layer, is a script in Python; the program that rules_oci downloads elsewhere starts faster.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

_FACTOR = 10
_BUILDS: Mapping[str, Sequence[str]] = {
    "rules_oci": ["//:rules_oci"],
    "native": ["//:native"],
    "native, no workers": ["//:native", "--strategy=OCIImage=sandboxed,local"],
}
_COUNTED = ("OCIImage", "OCIDescriptor")
_REAL = "OCIDescriptor"  # an action that the toolbox's own module has no need of
_MODULE = """\
module(name = "bench")

bazel_dep(name = "mfbazel", version = "0.1.0")
bazel_dep(name = "rules_oci", version = "2.2.0")
bazel_dep(name = "rules_pkg", version = "0.9.1")
bazel_dep(name = "rules_python", version = "0.22.1")
local_path_override(module_name = "mfbazel", path = "{source}")
"""
_BUILD = """\
load("@mfbazel//rules/private:layers.bzl", "tar_layer")
load("@mfbazel//rules/private:native_image.bzl", "native_image")
load("@rules_oci//oci:defs.bzl", "oci_image")
load("@rules_pkg//pkg:pkg.bzl", "pkg_tar")

LAYERS = [str(number) for number in range({layers})]

[
    [
        pkg_tar(name = "tar" + number, srcs = ["content" + number], extension = "tar.gz"),
        tar_layer(name = "layer" + number, src = "tar" + number, history = "layer " + number),
    ]
    for number in LAYERS
]

[
    image(
        name = name,
        architecture = "amd64",
        labels = "labels.txt",
        os = "linux",
        tars = ["layer" + number for number in LAYERS],
    )
    for name, image in [("rules_oci", oci_image), ("native", native_image)]
]
"""


@dataclass
class Series:
    """Measurements of one change with one assembler: seconds of its actions, and of the build."""

    actions: list[float] = field(default_factory=list)
    build: list[float] = field(default_factory=list)


class Workspace:
    """The workspace with the two images."""

    def __init__(self, source: Path, scratch: Path, layers: int, megabytes: float) -> None:
        self.directory = scratch / "workspace"
        self._output_base = scratch / "output_base"
        self._log = scratch / "executed.json"
        self._bazelw = source / "bazelw"
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("BUILD_", "RUNFILES_"))
        }
        self._size = int(megabytes * (1 << 20))
        self.directory.mkdir()
        self.write("MODULE.bazel", _MODULE.format(source=source).encode())
        self.write("BUILD.bazel", _BUILD.format(layers=layers).encode())
        self.write(".bazelversion", (source / ".bazelversion").read_bytes())
        self.change_label("first")
        for number in range(layers):
            self.change_layer(number, "first")

    def write(self, name: str, content: bytes) -> None:
        """Write a file of it."""
        (self.directory / name).write_bytes(content)

    def change_label(self, to: str) -> None:
        """Change what both images say."""
        self.write("labels.txt", f"changed={to}\n".encode())

    def change_layer(self, number: int, to: str) -> None:
        """Change a layer of both images."""
        self.write(f"content{number}", random.Random(f"{number} {to}").randbytes(self._size))

    def build(self, *options: str) -> tuple[Mapping[str, float], float]:
        """Build an image; return the seconds of executed actions by mnemonic, and of the whole."""
        self._log.unlink(missing_ok=True)
        began = time.monotonic()
        self._bazel("build", f"--execution_log_json_file={self._log}", *options)
        return _seconds(_entries(self._log)), time.monotonic() - began

    def close(self) -> None:
        """Stop the Bazel server and remove what it made."""
        self._bazel("clean", "--expunge")

    def _bazel(self, *arguments: str) -> None:
        command = [str(self._bazelw), f"--output_base={self._output_base}", *arguments]
        done = subprocess.run(
            command, cwd=self.directory, env=self._environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"error: {' '.join(command)} ended with {done.returncode}:\n{done.stderr}")


def _entries(log: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of an execution log: JSON objects one after the other."""
    text, decoder = log.read_text(encoding="utf-8"), json.JSONDecoder()
    while text:
        entry, end = decoder.raw_decode(text)
        text = text[end:].lstrip()
        yield entry


def _seconds(entries: Iterator[dict[str, Any]]) -> dict[str, float]:
    """Return how long the executed actions took, by mnemonic."""
    found: dict[str, float] = {}
    for entry in entries:
        if not entry.get("cacheHit"):
            took = float(str(entry["metrics"]["totalTime"]).removesuffix("s"))
            found[entry["mnemonic"]] = found.get(entry["mnemonic"], 0) + took
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 when rules_oci is the real one and the native assembler not ten times as fast."""
    options = _parser().parse_args(arguments)
    source = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", ".")).resolve()
    with tempfile.TemporaryDirectory(prefix="bench-assemblers-") as name:
        workspace = Workspace(source, Path(name), options.layers, options.megabytes)
        try:
            real = _REAL in workspace.build("//:rules_oci")[0]
            if not real:
                print(
                    "rules_oci is the toolbox's own module here, which is the native assembler: nothing is compared. "
                    "Name checkouts of the real one (docs/design/rules_oci.md)."
                )
                return 0
            results = _measure(workspace, options.rounds, options.layers)
        finally:
            workspace.close()
    return _print(results, options)


def _measure(workspace: Workspace, rounds: int, layers: int) -> dict[tuple[str, str], Series]:
    """Return the measurements by change and assembler; the first round is not counted."""
    results: dict[tuple[str, str], Series] = {}
    for number in range(rounds + 1):
        for change in ("label", "layer"):
            # Each comes first in some of the rounds.
            for name in [*_BUILDS][number % 3 :] + [*_BUILDS][: number % 3]:
                if change == "label":
                    workspace.change_label(f"{name} {number}")
                else:
                    workspace.change_layer(number % layers, f"{name} {number}")
                actions, took = workspace.build(*_BUILDS[name])
                nothing = workspace.build(*_BUILDS[name])[1]
                if number:
                    series = results.setdefault((change, name), Series())
                    series.actions.append(sum(actions.get(mnemonic, 0) for mnemonic in _COUNTED))
                    series.build.append(took - nothing)
    return results


def _print(results: Mapping[tuple[str, str], Series], options: argparse.Namespace) -> int:
    title = f"image of {options.layers} layers of {options.megabytes:g} MiB, medians of {options.rounds}, seconds"
    table = Table("changed", "assembler", "its actions", "whole build", "times as fast", title=title)
    factors = {}
    for change in ("label", "layer"):
        slow = median(results[change, "rules_oci"].actions)
        for name in _BUILDS:
            series = results[change, name]
            factors[change, name] = slow / median(series.actions)
            seconds = (f"{median(values):.3f}" for values in (series.actions, series.build))
            table.add_row(change, name, *seconds, f"{factors[change, name]:.1f}")
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    print(f"required: {_FACTOR} times as fast where the layers exist, that is when a label changed")
    return 0 if factors["label", "native"] >= _FACTOR else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=20, metavar="N", help="of the image (default: %(default)s)")
    parser.add_argument("--megabytes", type=float, default=2, metavar="N", help="of each layer (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="that are counted (default: %(default)s)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
