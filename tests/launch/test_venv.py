"""Virtual environments over unpacked wheels."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mfbazel.launch import Interpreter, LaunchError, create_venv, probe


@pytest.fixture(scope="module")
def interpreter() -> Interpreter:
    return probe(Path(sys.executable))


def unpack(directory: Path, module: str, version: str) -> Path:
    """Make a directory like an unpacked wheel: one module and its metadata."""
    information = directory / f"{module}-{version}.dist-info"
    information.mkdir(parents=True)
    information.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: {version}\n")
    directory.joinpath(f"{module}.py").write_text(f"VERSION = {version!r}\n")
    return directory


def ask(python: Path, code: str) -> object:
    """Run ``code`` in ``python``, without the variables of this process, and return what it assigned to ``x``."""
    done = subprocess.run(
        [python, "-c", f"import json\n{code}\nprint(json.dumps(x))"], env={}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_environment_sees_the_wheels_and_no_other_package(tmp_path: Path, interpreter: Interpreter) -> None:
    python = create_venv(tmp_path / "out", interpreter, [unpack(tmp_path / "alpha", "alpha", "1.5")])
    names = "from importlib import metadata as m; x = sorted(d.metadata['Name'] for d in m.distributions())"
    assert ask(python, names) == ["alpha"]
    assert ask(python, "import alpha; x = alpha.VERSION") == "1.5"
    found = "import importlib.util as u; x = [u.find_spec(n) is not None for n in ('alpha', 'pytest', 'pip')]"
    assert ask(python, found) == [True, False, False]


def test_the_environment_is_one_of_its_own_for_python(tmp_path: Path, interpreter: Interpreter) -> None:
    python = create_venv(tmp_path / "out", interpreter, [])
    assert ask(python, "import sys; x = [sys.prefix, sys.prefix != sys.base_prefix]") == [str(tmp_path / "out"), True]


def test_the_first_directory_wins(tmp_path: Path, interpreter: Interpreter) -> None:
    sites = [unpack(tmp_path / version, "alpha", version) for version in ("2.0", "1.0")]
    assert ask(create_venv(tmp_path / "out", interpreter, sites), "import alpha; x = alpha.VERSION") == "2.0"


def test_pth_files_inside_a_wheel_are_read(tmp_path: Path, interpreter: Interpreter) -> None:
    site = unpack(tmp_path / "with spaces and 'quotes'", "alpha", "1.0")
    hidden = unpack(site / "hidden", "beta", "3.0")
    site.joinpath("beta.pth").write_text(f"{hidden.name}\n")
    assert ask(create_venv(tmp_path / "out", interpreter, [site]), "import beta; x = beta.VERSION") == "3.0"


def test_a_package_spread_over_wheels_is_found_in_all_of_them(tmp_path: Path, interpreter: Interpreter) -> None:
    for name in ("one", "two"):
        tmp_path.joinpath(name, "shared").mkdir(parents=True)
        tmp_path.joinpath(name, "shared", f"{name}.py").write_text("")
    python = create_venv(tmp_path / "out", interpreter, [tmp_path / "one", tmp_path / "two"])
    assert ask(python, "import shared.one, shared.two; x = 1") == 1


def test_an_environment_that_is_there_is_left_alone(tmp_path: Path, interpreter: Interpreter) -> None:
    first = create_venv(tmp_path / "out", interpreter, [])
    marker = tmp_path / "out" / "marker"
    marker.touch()
    assert create_venv(tmp_path / "out", interpreter, []) == first
    assert marker.exists()


def test_a_missing_directory_is_named_and_nothing_half_written_stays(tmp_path: Path, interpreter: Interpreter) -> None:
    with pytest.raises(LaunchError, match=r"directories of packages are missing: .*gone"):
        create_venv(tmp_path / "out", interpreter, [tmp_path / "gone"])
    assert list(tmp_path.iterdir()) == []


def test_an_interpreter_that_does_not_run_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(LaunchError, match=r"python does not run: broken"):
        probe(broken)


def test_probing_a_virtual_environment_gives_the_interpreter_below_it(tmp_path: Path, interpreter: Interpreter) -> None:
    assert probe(create_venv(tmp_path / "out", interpreter, [])) == interpreter


def test_the_front_prints_the_interpreter_that_it_made(tmp_path: Path) -> None:
    root = Path(__file__).absolute().parents[2]
    site = unpack(tmp_path / "alpha", "alpha", "1.5")
    done = subprocess.run(
        [sys.executable, "-m", "mfbazel.launch", "venv", "--site", site, "--out", tmp_path / "out"],
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ask(Path(done.stdout.strip()), "import alpha; x = alpha.VERSION") == "1.5"
