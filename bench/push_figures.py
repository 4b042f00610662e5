"""Measures a push of ten images that share torch with all of CUDA, side by side with crane and with curl in one run.

The ten images are of ten flows, each with a repository of its own, as a monorepo has them: all layers of the image of
examples/torch_gpu, and a small one of their own. The registry is docker's (distribution), on loopback, with an empty
disk for each row.

* bytes: one push behind a proxy that counts what arrives;
* mfbazel: one push of the ten flows;
* crane: ten runs of `crane push`;
* curl: the layers of 16 MB and more, dealt out to one curl per core, each sending one after the other: what the
  registry takes at best;
* no change: a push of 200 images in 20 flows that are there already; CPU of the process, user and system.

Between rows what waits for the disk is written. MB are 10^6 bytes.

    bazel run //bench:push_figures                     # needs 15 GB of disk
    bazel run //bench:push_figures -- --rounds 3

Exits with 1 when a gate is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.gates import Gate, verdicts
from bench.push_rig import find_crane, random_content, write_images_json, write_layout
from mfbazel.push import read_layout
from tests.push.faulty_proxy import FaultyProxy
from tests.push.registries import docker_registry

GATES = {"bytes": 101.0, "crane": 5.0, "curl": 80.0, "cpu": 2.0}
"""Per cent of the sum of the unique blobs; times as fast as crane; per cent of curl's throughput; seconds of CPU."""

_IMAGES = 10
_OWN_BYTES = 1_000_000
_LARGE = 16_000_000
_FLOWS, _STEPS = 20, 10
_CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Flow:
    """A flow of one or several steps: its name, and step to layout."""

    name: str
    layouts: dict[str, Path]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 when a gate is missed, else 0."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-push-") as scratch:
        bench = Bench(Path(scratch))
        console = Console(width=None if sys.stdout.isatty() else 120)
        flows = bench.flows(options.image)
        unique, dealt = bench.unique(flows), bench.dealt(flows)
        arrived = bench.arrived(flows)
        times: dict[str, list[float]] = {"mfbazel": [], "crane": [], "curl": []}
        for _ in range(options.rounds):
            times["mfbazel"].append(bench.timed(lambda host: bench.push(flows, host)))
            times["curl"].append(bench.timed(lambda host: bench.curl(dealt, host)))
            times["crane"].append(bench.timed(lambda host: bench.crane(flows, host)))
        cpu = bench.unchanged()
        sent = {"mfbazel": unique, "crane": 0, "curl": sum(path.stat().st_size for paths in dealt for path in paths)}
    console.print(_table(times, sent))
    gates = _gates(times, sent, arrived, unique, cpu)
    console.print(verdicts(gates))
    return 0 if all(gate.reached for gate in gates) else 1


class Bench:
    """The rows, in the directory ``scratch``."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._crane = find_crane()
        self._environ = {
            **os.environ,
            "MFBAZEL_STATE_DIR": str(scratch / "state"),
            "XDG_CACHE_HOME": str(scratch / "cache"),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }

    def flows(self, image: Path) -> list[Flow]:
        """Return ten flows whose images are ``image`` with a layer of their own."""
        shared = read_layout(image)
        flows = []
        for number in range(_IMAGES):
            layout = self._scratch / "layouts" / f"flow{number}"
            write_layout(layout, {"own": random_content(f"own-{number}", _OWN_BYTES)})
            _add_layers(layout, shared.path)
            flows.append(Flow(f"flow{number}", {"train": layout}))
        return flows

    def unique(self, flows: Sequence[Flow]) -> int:
        """Return the bytes of all blobs, each counted once."""
        layouts = [read_layout(layout) for flow in flows for layout in flow.layouts.values()]
        return sum({blob.digest: blob.size for layout in layouts for blob in layout.blobs}.values())

    def dealt(self, flows: Sequence[Flow]) -> list[list[Path]]:
        """Return the large blobs, dealt out to the cores so that each has about the same number of bytes."""
        dealt: list[list[Path]] = [[] for _ in range(_CORES)]
        sizes = [0] * _CORES
        for blob in sorted(read_layout(flows[0].layouts["train"]).blobs, key=lambda blob: -blob.size):
            if blob.size >= _LARGE:
                core = sizes.index(min(sizes))
                dealt[core].append(blob.path)
                sizes[core] += blob.size
        return dealt

    def arrived(self, flows: Sequence[Flow]) -> int:
        """Push, and return the bytes of blobs that arrived at the registry."""
        with self._registry() as host, FaultyProxy(host) as proxy:
            self.push(flows, proxy.host)
            return sum(seen.arrived for seen in proxy.seen if "/blobs/" in seen.path)

    def timed(self, work: Callable[[str], None]) -> float:
        """Return the seconds that ``work`` takes with an empty registry."""
        with self._registry() as host:
            began = time.perf_counter()
            work(host)
            return time.perf_counter() - began

    def push(self, flows: Sequence[Flow], host: str) -> None:
        """Push all flows in one run."""
        requests = []
        for flow in flows:
            images = self._images(flow, host)
            requests.append({"images": str(images), "layouts": {step: str(at) for step, at in flow.layouts.items()}})
        work = self._scratch / "requests.json"
        work.write_text(json.dumps(requests))
        shutil.rmtree(self._scratch / "cache", ignore_errors=True)
        self._run([sys.executable, "-m", "bench.push_figures", "--push", str(work)])

    def crane(self, flows: Sequence[Flow], host: str) -> None:
        """Push with one run of crane after the other."""
        for flow in flows:
            for layout in flow.layouts.values():
                self._run([str(self._crane), "push", str(layout), f"{host}/bench/{flow.name}:latest"])

    def curl(self, dealt: Sequence[Sequence[Path]], host: str) -> None:
        """Let each core upload its files."""
        uploads = [
            subprocess.Popen(["sh", "-ec", _UPLOAD, "sh", host, *map(str, files)], env=self._environ) for files in dealt
        ]
        for upload in uploads:
            if upload.wait():
                raise RuntimeError(f"curl failed with exit status {upload.returncode}")

    def unchanged(self) -> float:
        """Return the seconds of CPU of a push of 200 images that are there."""
        flows = []
        for number in range(_FLOWS):
            base = self._scratch / "small" / str(number)
            layouts = {f"step{step}": base / f"step{step}" for step in range(_STEPS)}
            for step, layout in layouts.items():
                write_layout(layout, {"own": f"{number} {step}".encode()})
            flows.append(Flow(f"small{number}", layouts))
        with self._registry() as host:
            self.push(flows, host)
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            self.push(flows, host)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    @contextmanager
    def _registry(self) -> Iterator[str]:
        directory = self._scratch / "registry"
        os.sync()
        try:
            with docker_registry(directory) as registry:
                yield registry.host
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            shutil.rmtree(self._scratch / "state", ignore_errors=True)

    def _images(self, flow: Flow, host: str) -> Path:
        digests = {step: read_layout(layout).digest for step, layout in flow.layouts.items()}
        path = self._scratch / f"{flow.name}.json"
        return write_images_json(path, digests, f"{host}/bench/{flow.name}", f"//bench:{flow.name}")

    def _run(self, command: Sequence[str]) -> None:
        subprocess.run(command, check=True, env=self._environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


_UPLOAD = """
host=$1
shift
for file; do
  location=$(curl -sS -o /dev/null -D - -X POST "http://$host/v2/bench/curl/blobs/uploads/" | tr -d '\\r' |
    sed -n 's/^Location: //p')
  curl -sSf -o /dev/null -T "$file" -H 'Content-Type: application/octet-stream' \\
    "$location&digest=sha256:$(basename "$file")"
done
"""


def _add_layers(layout: Path, shared: Path) -> None:
    """Put the layers of the image in the layout ``shared`` below those of the image in ``layout``."""
    own, base = _Image(layout), _Image(shared)
    for descriptor in base.manifest["layers"]:
        _blob(layout, descriptor["digest"]).symlink_to(_blob(shared, descriptor["digest"]).resolve())
    own.config["rootfs"]["diff_ids"][:0] = base.config["rootfs"]["diff_ids"]
    own.manifest["layers"][:0] = base.manifest["layers"]
    own.write()


class _Image:
    """The one image of a layout, which can be changed."""

    def __init__(self, layout: Path) -> None:
        self._layout = layout
        self._index = json.loads((layout / "index.json").read_bytes())
        self.manifest = self._read(self._index["manifests"][0]["digest"])
        self.config = self._read(self.manifest["config"]["digest"])

    def write(self) -> None:
        """Write configuration, manifest and index anew."""
        self.manifest["config"] |= self._add(self.config)
        self._index["manifests"][0] |= self._add(self.manifest)
        (self._layout / "index.json").write_text(json.dumps(self._index))

    def _read(self, digest: str) -> dict[str, Any]:
        return dict(json.loads(_blob(self._layout, digest).read_bytes()))

    def _add(self, content: dict[str, Any]) -> dict[str, Any]:
        data = json.dumps(content).encode()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        _blob(self._layout, digest).write_bytes(data)
        return {"digest": digest, "size": len(data)}


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def _gates(times: dict[str, list[float]], sent: dict[str, int], arrived: int, unique: int, cpu: float) -> list[Gate]:
    ratios = [crane / own for crane, own in zip(times["crane"], times["mfbazel"], strict=True)]
    shares = [
        100 * (sent["mfbazel"] / own) / (sent["curl"] / curl)
        for own, curl in zip(times["mfbazel"], times["curl"], strict=True)
    ]
    return [
        Gate("bytes that arrived, of the unique blobs'", 100 * arrived / unique, GATES["bytes"], "%", at_most=True),
        Gate("as fast as ten runs of crane push", statistics.median(ratios), GATES["crane"], "times"),
        Gate("throughput, of one curl per core", statistics.median(shares), GATES["curl"], "%"),
        Gate("no change, 200 images: CPU", cpu, GATES["cpu"], "s", at_most=True),
    ]


def _table(times: dict[str, list[float]], sent: dict[str, int]) -> Table:
    table = Table("row", "seconds, each round", "MB sent", "MB/s, median")
    for name, seconds in times.items():
        rate = f"{sent[name] / statistics.median(seconds) / 1e6:.0f}" if sent[name] else ""
        size = f"{sent[name] / 1e6:.0f}" if sent[name] else ""
        table.add_row(name, ", ".join(f"{second:.1f}" for second in seconds), size, rate)
    return table


def _push(work: Path) -> None:
    """Push the flows that the file names, as ``//:push_all`` does in one process."""
    from mfbazel.push import FlowPush, Settings, push_flows
    from mfbazel.push.report import Reporter

    scratch = work.parent
    requests = [
        FlowPush(Path(one["images"]), {step: Path(at) for step, at in one["layouts"].items()}, scratch, scratch)
        for one in json.loads(work.read_bytes())
    ]
    for flow in push_flows(requests, Settings(), Reporter()).flows:
        if flow.error:
            raise flow.error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, required=True, help="OCI layout of the image that the ten share")
    parser.add_argument("--rounds", type=int, default=1, help="how often each row runs (default: %(default)s)")
    return parser


if __name__ == "__main__":
    if sys.argv[1:2] == ["--push"]:
        _push(Path(sys.argv[2]))
        raise SystemExit(0)
    raise SystemExit(main())
