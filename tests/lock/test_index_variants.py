"""A build for GPUs beside one for CPUs of the same distribution in one flow: by index, by extra, by local version."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mfbazel.lock import cli
from mfbazel.lock.errors import LockError
from tests.lock.index_server import Index, forget_configuration, running
from tests.lock.wheelhouse import wheel

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
FLOW = """
from metaflow import FlowSpec, pypi, resources, step

class Demo(FlowSpec):
    @step
    def start(self):
        self.next(self.train)

    @resources(gpu=1)
    @pypi(packages={GPU})
    @step
    def train(self):
        self.next(self.score)

    @pypi(packages={CPU})
    @step
    def score(self):
        self.next(self.end)

    @step
    def end(self):
        pass
"""


@pytest.fixture
def public(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """The user's index."""
    forget_configuration(tmp_path / "home", monkeypatch)
    monkeypatch.setenv("MFBAZEL_WHEEL_CACHE", str(tmp_path / "wheels"))
    with running(tmp_path / "public") as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.url())
        wheel(index.directory, "metaflow", "2.19.39")
        wheel(index.directory, "packaging", "26.0")
        yield index


def lock(root: Path, gpu: dict[str, str], cpu: dict[str, str], policy: str = "") -> dict[str, dict[str, str]]:
    """Lock the flow; return per step the versions by name."""
    path = root / "demo.py"
    path.write_text(FLOW.replace("{GPU}", repr(gpu)).replace("{CPU}", repr(cpu)), encoding="utf-8")
    (root / "mfbazel.toml").write_text(policy, encoding="utf-8")
    options = ["--flow", str(path), "--lock-dir", str(root / "demo.lock"), "--label", "//flows:demo", "--python", HERE]
    assert cli.main(["flow", *options, "--runtime", "packaging", "--policy", str(root / "mfbazel.toml")]) == 0
    document = read(root)
    return {
        step: {
            document["wheels"][sha]["name"]: document["wheels"][sha]["version"]
            for sha in document["environments"][step]["wheels"]["linux/amd64"]
        }
        for step in ("train", "score")
    }


def read(root: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((root / "demo.lock" / "flow.json").read_text(encoding="utf-8"))
    return document


def by_index(name: str, index: Index, gpu: bool, *packages: str) -> str:
    return (
        f'[[lock.index]]\nname = "{name}"\nurl = "{index.url()}"\npackages = {list(packages)}\n'
        f"gpu = {str(gpu).lower()}\n"
    )


def test_by_index_each_step_gets_its_build_even_under_one_file_name(tmp_path: Path, public: Index) -> None:
    """The same version, and the same file name with other content, on two indexes."""
    wheel(tmp_path / "cuda", "torch", "2.7.0", ("nvidia-cudnn",), modules=["torch", "torch_cuda"])
    wheel(tmp_path / "cuda", "nvidia_cudnn", "9.1")
    wheel(tmp_path / "cpu", "torch", "2.7.0", modules=["torch"])
    wheel(public.directory, "torch", "2.7.0", ("unwanted",))
    wheel(public.directory, "nvidia_cudnn", "99")
    wheel(public.directory, "unwanted", "1.0")
    with running(tmp_path / "cuda") as cuda, running(tmp_path / "cpu") as cpu:
        policy = by_index("torch-cuda", cuda, True, "torch", "nvidia-*") + by_index("torch-cpu", cpu, False, "torch")
        locked = lock(tmp_path, {"torch": "2.7.0"}, {"torch": "2.7.0"}, policy)
        assert lock(tmp_path, {"torch": "2.7.0"}, {"torch": "2.7.0"}, policy) == locked
    assert locked["train"] == {"torch": "2.7.0", "nvidia-cudnn": "9.1", "packaging": "26.0"}
    assert locked["score"] == {"torch": "2.7.0", "packaging": "26.0"}
    document = read(tmp_path)
    expected = {
        step: hashlib.sha256((tmp_path / name / "torch-2.7.0-py3-none-any.whl").read_bytes()).hexdigest()
        for step, name in (("train", "cuda"), ("score", "cpu"))
    }
    for step, sha256 in expected.items():
        assert sha256 in document["environments"][step]["wheels"]["linux/amd64"]
        assert f"--hash=sha256:{sha256}" in (tmp_path / "demo.lock" / f"{step}.txt").read_text(encoding="utf-8")
    assert len(set(expected.values())) == 2
    assert document["environments"]["train"]["policy"]["indexes"] == {
        "torch": "torch-cuda",
        "nvidia-cudnn": "torch-cuda",
    }
    assert document["environments"]["score"]["policy"]["indexes"] == {"torch": "torch-cpu"}
    assert "policy" not in document["environments"]["end"]
    assert "://" not in json.dumps(document)


def test_by_index_for_gpus_alone_leaves_the_others_to_the_users_index(tmp_path: Path, public: Index) -> None:
    wheel(tmp_path / "cuda", "torch", "2.7.0+cu126")
    wheel(public.directory, "torch", "2.8.0")
    with running(tmp_path / "cuda") as cuda:
        policy = by_index("torch-cuda", cuda, True, "torch")
        locked = lock(tmp_path, {"torch": ">=2"}, {"torch": ">=2"}, policy)
    assert locked["train"]["torch"] == "2.7.0+cu126"
    assert locked["score"]["torch"] == "2.8.0"


def test_by_extra_each_step_gets_what_its_extra_brings(tmp_path: Path, public: Index) -> None:
    requires = ('jax-cuda12-plugin; extra == "cuda12"', "jaxlib")
    wheel(public.directory, "jax", "0.8.0", requires)
    wheel(public.directory, "jaxlib", "0.8.0")
    wheel(public.directory, "jax_cuda12_plugin", "0.8.0", ("nvidia-cublas-cu12",))
    wheel(public.directory, "nvidia_cublas_cu12", "12.9")
    locked = lock(tmp_path, {"jax[cuda12]": "0.8.0"}, {"jax": "0.8.0"})
    assert locked["train"].keys() - locked["score"].keys() == {"jax-cuda12-plugin", "nvidia-cublas-cu12"}
    assert locked["score"] == {"jax": "0.8.0", "jaxlib": "0.8.0", "packaging": "26.0"}


def test_by_local_version_each_step_gets_exactly_that_build(tmp_path: Path, public: Index) -> None:
    for local, more in (("+cu126", ("nvidia-cudnn",)), ("+cpu", ()), ("", ())):
        wheel(public.directory, "torch", f"2.7.0{local}", more)
    wheel(public.directory, "nvidia_cudnn", "9.1")
    locked = lock(tmp_path, {"torch": "2.7.0+cu126"}, {"torch": "2.7.0+cpu"})
    assert locked["train"] == {"torch": "2.7.0+cu126", "nvidia-cudnn": "9.1", "packaging": "26.0"}
    assert locked["score"] == {"torch": "2.7.0+cpu", "packaging": "26.0"}
    text = (tmp_path / "demo.lock" / "train.txt").read_text(encoding="utf-8")
    assert "torch==2.7.0+cu126 \\\n" in text


def test_a_step_that_needs_a_missing_variant_fails_by_name_and_writes_nothing(tmp_path: Path, public: Index) -> None:
    wheel(public.directory, "torch", "2.7.0+cpu")
    with pytest.raises(LockError) as error:
        lock(tmp_path, {"torch": "2.7.0+cu126"}, {"torch": "2.7.0+cpu"})
    assert "step 'train': the requirements cannot be met: torch" in str(error.value)
    assert not (tmp_path / "demo.lock").exists()
