"""The requirements files of a lock are what installers and bots take them for: pip-tools' format.

Every test works on a lock of two platforms with extras, markers, versions that differ between the platforms, and what
Metaflow needs.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from mfbazel.lock import cli
from mfbazel.lock.resolver.uv_process import find_uv
from mfbazel.wheel.fetch import sha256_of
from tests.lock.wheelhouse import use_only, wheel

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
MACHINES = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}
MACHINE = platform.machine()
FLOW = """
from metaflow import FlowSpec, pypi, step

class Demo(FlowSpec):
    @pypi(packages={"alpha[fast]": "1.0", "delta": ">=1"})
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass
"""
pytestmark = pytest.mark.skipif(sys.platform != "linux" or MACHINE not in MACHINES, reason="installs Linux wheels")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheelhouse, and a configuration that knows nothing else."""
    directory = tmp_path / "wheelhouse"
    for name, requires in [("metaflow", ["requests"]), ("packaging", []), ("requests", ["certifi"]), ("certifi", [])]:
        installable(directory, name, "2.30", requires)
    installable(directory, "boto3", "1.15", ["beta"])
    marked = [f'{name}; platform_machine == "aarch64"' for name in ("epsilon", "delta>=2")]
    marked += ['zeta; platform_machine == "x86_64"']
    installable(directory, "alpha", "1.0", ["beta<3", *marked, 'gamma[more]; extra == "fast"'])
    installable(directory, "gamma", "1.0", ['theta; extra == "more"'])
    for name in ("epsilon", "zeta", "theta", "beta"):
        installable(directory, name, "2.0")
    # One version, and wheels of each platform; another wheel of it fits everywhere, but not as well.
    for tag in ("py3-none-manylinux_2_17_x86_64", "py3-none-manylinux_2_17_aarch64", "py3-none-any"):
        installable(directory, "gamma", "2.0", ['theta; extra == "more"'], tag)
    # The version differs between the platforms.
    installable(directory, "delta", "1.0", tag="py3-none-any")
    installable(directory, "delta", "2.0", tag="py3-none-manylinux_2_17_aarch64")
    return use_only(directory, tmp_path / "home", monkeypatch)


def installable(
    directory: Path,
    name: str,
    version: str,
    requires: Sequence[str] = (),
    tag: str = "py3-none-any",
) -> None:
    """Make a wheel that says in a file of its own which one it is."""
    wheel(directory, name, version, [*requires], tag, modules=[])
    path = directory / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path) as archive:
        files = {entry: archive.read(entry) for entry in archive.namelist()}
    info = f"{name}-{version}.dist-info"
    files[f"{name}.py"] = f"wheel = {path.name!r}\n".encode()
    files[f"{info}/RECORD"] = "".join(f"{entry},,\n" for entry in files).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in files.items():
            archive.writestr(entry, content)


@pytest.fixture
def lock(tmp_path: Path, wheels: Path) -> Path:
    """A lock of the flow for both platforms, made before newer versions appeared."""
    (tmp_path / "demo.py").write_text(FLOW, encoding="utf-8")
    arguments = ["--flow", str(tmp_path / "demo.py"), "--lock-dir", str(tmp_path / "demo.lock"), "--label", "//:demo"]
    arguments += ["--python", HERE, "--infer", "off", "--platform", "linux/amd64", "--platform", "linux/arm64"]
    assert cli.main(["flow", *arguments]) == 0
    for name in ("alpha", "beta", "boto3", "certifi"):
        installable(wheels, name, "2.99")
    return tmp_path / "demo.lock"


def locked(lock: Path, step: str = "start") -> set[str]:
    """Return the file names of the wheels that are locked for this machine."""
    table = json.loads((lock / "flow.json").read_text(encoding="utf-8"))
    return {table["wheels"][sha]["file"] for sha in table["environments"][step]["wheels"][MACHINES[MACHINE]]}


def installed(site: Path) -> set[str]:
    """Return the file names of the wheels that were installed."""
    texts = [path.read_text(encoding="utf-8") for path in site.glob("*.py")]
    return {match[1] for text in texts if (match := re.match(r"wheel = '(.*)'", text))}


def run(*command: str | Path, expect: int = 0) -> str:
    result = subprocess.run(
        [os.fspath(part) for part in command], capture_output=True, text=True, errors="replace", check=False
    )
    assert result.returncode == expect, result.stdout + result.stderr
    return result.stdout + result.stderr


def site_of(environment: Path) -> Path:
    return environment / "lib" / f"python{HERE}" / "site-packages"


def test_the_lock_has_what_the_tests_are_about(lock: Path) -> None:
    text = (lock / "start.txt").read_text(encoding="utf-8")
    assert 'epsilon==2.0 ; platform_machine == "aarch64" \\\n' in text
    assert 'zeta==2.0 ; platform_machine == "x86_64" \\\n' in text
    assert 'delta==1.0 ; platform_machine == "x86_64" \\\n' in text
    assert 'delta==2.0 ; platform_machine == "aarch64" \\\n' in text
    assert len(re.findall(r"--hash", text[text.index("gamma==2.0") : text.index("requests==")])) == 2
    assert "    # via metaflow (runtime)\n" in text
    assert {name.partition("-")[0] for name in locked(lock)} == {
        "alpha", "beta", "boto3", "certifi", "delta", "gamma", "requests", "theta",
        "zeta" if MACHINE == "x86_64" else "epsilon"}  # fmt: skip
    assert f"gamma-2.0-py3-none-manylinux_2_17_{MACHINE}.whl" in locked(lock)


@pytest.mark.parametrize("step", ["start", "end", "_launcher"])
def test_pip_installs_exactly_the_locked_wheels(tmp_path: Path, lock: Path, step: str) -> None:
    run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "--require-hashes",
        "--target",
        tmp_path / "site",
        "-r",
        lock / f"{step}.txt",
    )
    assert installed(tmp_path / "site") == locked(lock, step)


def test_pip_refuses_a_wheel_with_another_content(tmp_path: Path, lock: Path, wheels: Path) -> None:
    with zipfile.ZipFile(wheels / "beta-2.0-py3-none-any.whl", "a") as archive:
        archive.writestr("beta_more.py", "")
    command = [sys.executable, "-m", "pip", "install", "--require-hashes", "--target", str(tmp_path / "site")]
    said = run(*command, "-r", lock / "start.txt", expect=1)
    assert "DO NOT MATCH THE HASHES" in said
    assert sha256_of(wheels / "beta-2.0-py3-none-any.whl") in said
    assert installed(tmp_path / "site") == set()


def test_uv_installs_exactly_the_locked_wheels_and_removes_all_else(tmp_path: Path, lock: Path, wheels: Path) -> None:
    uv, environment = find_uv(), tmp_path / "venv"
    links = ["--no-index", "--find-links", str(wheels)]
    run(uv, "venv", "--quiet", "--python", sys.executable, environment)
    run(uv, "pip", "install", "--python", environment, *links, "beta==2.99", "metaflow")
    assert "metaflow-2.30-py3-none-any.whl" in installed(site_of(environment))
    run(uv, "pip", "sync", "--python", environment, "--require-hashes", *links, lock / "start.txt")
    assert installed(site_of(environment)) == locked(lock)


def pins(text: str) -> dict[str, str]:
    found = re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)(?: ; platform_machine == \"(\w+)\")?", text, re.MULTILINE)
    return {name: version for name, version, machine in found if machine in ("", MACHINE)}


def compile_over(lock: Path, *options: str) -> str:
    """Let pip-compile write the requirements file of a step from what the step asks for; return the file."""
    source = lock.parent / "start.in"
    source.write_text("alpha[fast]==1.0\ndelta>=1\nboto3>=1.14.0\nrequests>=2.21.0\n", encoding="utf-8")
    output = lock / "start.txt"
    command = [sys.executable, "-m", "piptools", "compile", "--quiet", "--strip-extras", "--generate-hashes"]
    run(*command, "--output-file", output, *options, source)
    return output.read_text(encoding="utf-8")


def test_pip_compile_reads_the_file_and_keeps_its_pins(lock: Path) -> None:
    before = (lock / "start.txt").read_text(encoding="utf-8")
    after = compile_over(lock)
    assert pins(after) == pins(before)
    # The hashes that are locked for this machine are among those of pip-compile, which takes the wheels of all.
    table = json.loads((lock / "flow.json").read_text(encoding="utf-8"))
    shas = table["environments"]["start"]["wheels"][MACHINES[MACHINE]]
    assert [sha for sha in shas if f"--hash=sha256:{sha}" not in after] == []


def test_pip_compile_upgrades_one_package_as_bots_do(lock: Path) -> None:
    before = pins((lock / "start.txt").read_text(encoding="utf-8"))
    assert pins(compile_over(lock, "--upgrade-package", "certifi")) == {**before, "certifi": "2.99"}
