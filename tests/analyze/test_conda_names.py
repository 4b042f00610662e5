"""What an entry of @conda means on the Python index."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mfbazel.analyze import AnalyzeError, FlowSpec, ReadOptions, read_flow, requirements_sha256
from mfbazel.analyze.conda_names import conda_specifier, distribution

FLOW = """from metaflow import *
class F(FlowSpec):
    @conda(packages={packages})
    @step
    def start(self): pass
"""


def read(tmp_path: Path, packages: dict[str, object], **names: str) -> FlowSpec:
    path = tmp_path / "flow.py"
    path.write_text(FLOW.replace("{packages}", repr(packages)))
    conda_names = {name.replace("_", "-"): value for name, value in names.items()}
    return read_flow(path, (), ReadOptions("static", conda_names=conda_names))


def requirements(flow: FlowSpec) -> list[tuple[str, str | None]]:
    return [(item.requirement, item.conda) for item in flow.steps[0].declared]


@pytest.mark.parametrize(
    ("key", "version", "expected", "conda"),
    [
        ("pandas", "2.2", "pandas==2.2", None),
        ("conda-forge::pandas", "2.2", "pandas==2.2", None),
        ("pytorch::pytorch", "2.4.1", "torch==2.4.1", "pytorch"),
        ("pytorch-gpu", "2.4.*", "torch==2.4.*", "pytorch-gpu"),
        ("py-xgboost", "", "xgboost", "py-xgboost"),
        ("matplotlib-base", ">=3,<4", "matplotlib<4,>=3", "matplotlib-base"),
        ("msgpack-python", "=1.0", "msgpack==1.0.*", "msgpack-python"),
        ("ray-default", "2.30", "ray[default]==2.30", "ray-default"),
        ("Ruamel_Yaml", "0.18", "ruamel-yaml==0.18", None),
        ("numpy", 1.26, "numpy==1.26", None),
        ("a-package-of-tomorrow", "1", "a-package-of-tomorrow==1", None),
        ("librosa", "0.10", "librosa==0.10", None),
        ("cuda-python", "12.6", "cuda-python==12.6", None),
    ],
)
def test_a_conda_package_is_a_distribution(
    tmp_path: Path, key: str, version: object, expected: str, conda: str | None
) -> None:
    assert requirements(read(tmp_path, {key: version})) == [(expected, conda)]


@pytest.mark.parametrize(
    "name",
    [
        "pytorch-cuda", "cudatoolkit", "cuda-nvcc", "libgcc-ng", "libstdcxx-ng", "_libgcc_mutex", "_openmp_mutex",
        "ffmpeg", "openjdk", "nodejs", "r-base", "r-ggplot2", "graphviz", "gcc_linux-64", "tzdata", "python",
    ],
)  # fmt: skip
def test_what_the_index_lacks_is_refused_with_both_ways_out(tmp_path: Path, name: str) -> None:
    with pytest.raises(AnalyzeError) as error:
        read(tmp_path, {name: "1"})
    canonical = f"{name[0]}{name[1:].replace('_', '-')}"
    assert str(error.value).startswith("flow.py:3: @conda: the conda package ")
    assert f'{canonical}": ""}}` of metaflow_flow' in str(error.value)
    assert f'{canonical}": "distribution"}}`' in str(error.value)


@pytest.mark.parametrize("name", ["opencv", "py-opencv", "pyqt", "faiss-gpu", "cupy"])
def test_several_distributions_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(AnalyzeError, match=f'"{name}" may be any of .* and .* choose with `conda_names = '):
        read(tmp_path, {name: "1"})


def test_the_flows_own_names_win_and_an_empty_one_leaves_the_package_out(tmp_path: Path) -> None:
    packages: dict[str, object] = {"nvidia::pytorch-cuda": "12.1=h0_1", "py_opencv": "4.10", "pytorch": "2.4.1"}
    flow = read(tmp_path, packages, pytorch_cuda="", py_opencv="opencv-python-headless", pytorch="torch-nightly")
    assert requirements(flow) == [
        ("opencv-python-headless==4.10", "py-opencv"),
        ("torch-nightly==2.4.1", "pytorch"),
    ]


def test_names_do_not_reach_the_hash(tmp_path: Path) -> None:
    packages: dict[str, object] = {"pytorch::pytorch": "2.4.1", "cudatoolkit": "11=h1_0"}
    one, other = read(tmp_path, packages, cudatoolkit=""), read(tmp_path, packages, cudatoolkit="", pytorch="y")
    assert one.steps[0].requirements_sha256 == other.steps[0].requirements_sha256
    assert one.steps[0].requirements_sha256 == requirements_sha256(None, {k: str(v) for k, v in packages.items()})


def test_packages_of_pypi_keep_their_names(tmp_path: Path) -> None:
    path = tmp_path / "flow.py"
    path.write_text(FLOW.replace("@conda(packages={packages})", "@pypi(packages={'pytorch': '=1.0', 'ffmpeg': ''})"))
    flow = read_flow(path, (), ReadOptions("static", conda_names={"ffmpeg": "x"}))
    assert requirements(flow) == [("ffmpeg", None), ("pytorch===1.0", None)]


def test_a_disabled_step_is_not_refused(tmp_path: Path) -> None:
    path = tmp_path / "flow.py"
    path.write_text(FLOW.replace("{packages}", "{'cudatoolkit': '11', 'pandas': '2'}, disabled=True"))
    flow = read_flow(path, (), ReadOptions("static"))
    assert (flow.steps[0].disabled, requirements(flow)) == (True, [("pandas==2", None)])


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("", ""), ("*", ""), ("1.2", "==1.2"), ("==1.2", "==1.2"), ("=1.2", "==1.2.*"), ("=1.2.*", "==1.2.*"),
        ("1.2.*", "==1.2.*"), (">=1,<2", "<2,>=1"), (">= 1.2 , <2", "<2,>=1.2"), ("!=1.3", "!=1.3"), ("~=1.4", "~=1.4"),
        ("2024a0", "==2024a0"),
    ],
)  # fmt: skip
def test_versions_of_conda_are_pep_440(version: str, expected: str) -> None:
    assert conda_specifier(version) == expected


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("1.2|1.3", "has alternatives"),
        ("1.2=py39_0", "names a build"),
        ("=1.2=py39*", "names a build"),
        (">=1.2.*", "is no version of PEP 440"),
        ("9e", "is no version of PEP 440"),
        ("1.2*", "is not understood"),
        ("1.2,", "is not understood"),
        ("new est", "is not understood"),
    ],
)
def test_versions_without_a_counterpart_are_refused(version: str, message: str) -> None:
    with pytest.raises(AnalyzeError, match=message):
        conda_specifier(version)


def test_nothing_is_imported_for_the_names() -> None:
    assert distribution("python-graphviz", {}) == "graphviz"
    assert "conda_pypi" not in sys.modules


def test_all_names_without_a_counterpart_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(AnalyzeError) as error:
        read(tmp_path, {"pytorch-cuda": "12.1", "numpy": "1.26", "cudatoolkit": "11.8"})
    told = str(error.value).splitlines()
    assert [line.partition('"')[2].partition('"')[0] for line in told] == ["pytorch-cuda", "cudatoolkit"]
