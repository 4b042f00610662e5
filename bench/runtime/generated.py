"""Flows for the benchmarks of launching, with a lock and pushed images as Bazel would have made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mfbazel.analyze import requirements_sha256
from mfbazel.lock_hash import environments_hash

LABEL = "//bench:flow"
REPOSITORY = "registry.example.com/bench/flow"
_WHEELS = 120
_LAYERS = 24
_PACKAGES = {"pandas": "2.3.3", "scikit-learn": "1.7.2", "requests": ">=2.32"}


def write_chain(directory: Path, steps: int) -> Path:
    """Write a flow of ``steps`` steps in a row, each on Batch with packages and an image of its own, and return it."""
    names = ["start", *(f"step_{number:03}" for number in range(steps - 2)), "end"]
    lines = ["from metaflow import FlowSpec, batch, pypi, step", "", "", "class Chain(FlowSpec):"]
    for number, name in enumerate(names):
        packages = {**_PACKAGES, "numpy": f"2.{number}"}
        following = f"self.next(self.{names[number + 1]})" if name != "end" else "pass"
        lines += ["    @batch", f"    @pypi(packages={packages!r})", "    @step", f"    def {name}(self):"]
        lines += [f"        {following}", ""]
    wanted = {name: {**_PACKAGES, "numpy": f"2.{number}"} for number, name in enumerate(names)}
    return _write(directory, "Chain", lines, wanted)


def write_foreach(directory: Path, image: str | None) -> Path:
    """Write a flow with a foreach of as many tasks on Batch as ``$TASKS`` says; return its file.

    Args:
        directory: of the flow.
        image: given to the step, None for the one that Bazel built.
    """
    given = f'(image="{image}")' if image else ""
    lines = [
        "import os",
        "",
        "from metaflow import FlowSpec, batch, step",
        "",
        "",
        "class Wide(FlowSpec):",
        "    @step",
        "    def start(self):",
        '        self.parts = list(range(int(os.environ["TASKS"])))',
        '        self.next(self.body, foreach="parts")',
        "",
        f"    @batch{given}",
        "    @step",
        "    def body(self):",
        "        self.next(self.join)",
        "",
        "    @step",
        "    def join(self, inputs):",
        "        self.next(self.end)",
        "",
        "    @step",
        "    def end(self):",
        "        pass",
        "",
    ]
    return _write(directory, "Wide", lines, {name: {} for name in ("start", "body", "join", "end")})


def variables(directory: Path) -> dict[str, str]:
    """Return what the launcher and the push would say of the flow in ``directory``."""
    return {
        "METAFLOW_DEFAULT_ENVIRONMENT": "bazel",
        "MFBAZEL_FLOW_LABEL": LABEL,
        "MFBAZEL_FLOW_LOCK": str(directory / "flow.json"),
        "MFBAZEL_IMAGES": str(directory / "images.json"),
        "MFBAZEL_VERIFY": "0",
    }


def _write(directory: Path, flow: str, lines: Iterable[str], wanted: dict[str, dict[str, str]]) -> Path:
    directory.mkdir(parents=True)
    file = directory / "flow.py"
    file.write_text("\n".join([*lines, "", 'if __name__ == "__main__":', f"    {flow}()", ""]))
    hashes = {name: requirements_sha256(None, packages) for name, packages in wanted.items()}
    steps = [
        {
            "name": name,
            "environment": name,
            "declared": [{"name": package, "specifier": version} for package, version in packages.items()],
            "requirements_sha256": hashes[name],
        }
        for name, packages in wanted.items()
    ]
    environments = {
        name: {"python": "3.14", "wheels": {"linux/amd64": [_digest(f"{name} {n}") for n in range(_WHEELS)]}}
        for name in wanted
    }
    _json(directory / "flow.json", {"schema": 1, "flow": {"name": flow, "steps": steps}, "environments": environments})
    images = {
        name: {
            "digest": f"sha256:{_digest(name)}",
            "image": f"{REPOSITORY}@sha256:{_digest(name)}",
            "layers": {"linux/amd64": [f"sha256:{_digest(f'{name} layer {n}')}" for n in range(_LAYERS)]},
            "lock": environments_hash(environments, [name]),
            "requirements_sha256": hashes[name],
        }
        for name in wanted
    }
    _json(directory / "images.json", {"schema": 1, "flow": flow, "label": LABEL, "steps": images})
    return file


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True))
