"""What a task finds in the code package: first-party code with its data files, and the extension itself.

The libraries are those of ``first_party/BUILD.bazel``, as Bazel lists them for a flow's launcher and for its images.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.extension.project import ROOT, Project, words

BUILT = Path(__file__).with_name("first_party")
LISTED = BUILT / "runtime.first_party.json"
BAKED = BUILT / "baked.tar"

DESCRIBE = "import json; from acme.shapes import area; print(json.dumps(area.describe()))"
DESCRIBED = {"sides": {"triangle": 3}, "meter": "1000 mm", "inch": "25.4", "mile": "1609 m"}
NAMESPACE = "import acme, acme.units; print(acme.__file__, acme.units.__file__)"


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The code package of a flow, where a container unpacks it, with the variables that Metaflow sets there."""
    launched = Project(tmp_path_factory.mktemp("launched"))
    launched.write_flow('@pypi(packages={"numpy": "2.5.5"})')
    launched.write_lock({"numpy": "2.5.5"})
    beside = launched.directory / "beside" / "deep" / "tool.py"
    beside.parent.mkdir(parents=True)
    beside.write_text("SIDES = 4\n")
    launched.variables |= {"MFBAZEL_FIRST_PARTY": str(LISTED), "MFBAZEL_RUNFILES": str(ROOT)}
    return unpacked(launched, tmp_path_factory.mktemp("container"))


def test_libraries_of_other_packages_reach_the_task_with_their_data_and_what_actions_made(container: Project) -> None:
    done = container.python("-c", DESCRIBE)
    assert done.returncode == 0, words(done)
    assert json.loads(done.stdout) == DESCRIBED


def test_a_namespace_package_is_one_in_the_task_too(container: Project) -> None:
    assert container.python("-c", NAMESPACE).stdout.split() == ["None", "None"]


def test_a_library_reaches_the_task_under_every_name_that_it_has(container: Project) -> None:
    done = container.python("-c", "from tests.extension.first_party.acme.units import length; print(length.__file__)")
    assert done.returncode == 0, words(done)


def test_what_lies_beside_the_flow_reaches_the_task_without_being_listed(container: Project) -> None:
    assert container.python("-c", "from beside.deep.tool import SIDES; print(SIDES)").stdout == "4\n"


def test_the_packaged_extension_loads_where_the_package_mfbazel_is_missing(container: Project) -> None:
    """As in a container: from the code package alone, with no variable of the launcher."""
    task = ["--run-id", "1", "--task-id", "1", "--input-paths", "1/_parameters/0"]
    for arguments in (["show"], ["init", "--run-id", "1", "--task-id", "0"], ["step", "start", *task]):
        done = container.run("--metadata=local", "--datastore=local", *arguments)
        assert done.returncode == 0, words(done)
        assert "No module named" not in words(done)


def test_a_list_relative_to_a_checkout_needs_no_runfiles(tmp_path: Path) -> None:
    checkout = Project(tmp_path)
    checkout.write_flow()
    library = tmp_path / "elsewhere" / "lib" / "shapes.py"
    library.parent.mkdir(parents=True)
    library.write_text("SIDES = 3\n")
    library.with_name("sides.txt").write_text("3\n")
    listed = {"lib": "elsewhere/lib", "shapes.py": "elsewhere/lib/shapes.py"}
    tmp_path.joinpath("first_party.json").write_text(json.dumps(listed))
    checkout.variables["MFBAZEL_FIRST_PARTY"] = "first_party.json"
    checkout.write_images({})
    container = unpacked(checkout, tmp_path / "container")
    read = "import shapes, lib.shapes as s, pathlib; print(shapes.SIDES, pathlib.Path(s.__file__).parent / 'sides.txt')"
    done = container.python("-c", read)
    assert done.returncode == 0, words(done)
    sides, data = done.stdout.split()
    assert sides == "3" and Path(data).read_text() == "3\n"


def test_a_listed_file_that_is_missing_is_named(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write_flow()
    project.write_images({})
    tmp_path.joinpath("first_party.json").write_text('{"lib/gone.py": "lib/gone.py"}')
    project.variables["MFBAZEL_FIRST_PARTY"] = "first_party.json"
    done = project.run("package", "save", "package.tgz")
    assert done.returncode != 0
    assert "first_party.json lists lib/gone.py, but there is no file lib/gone.py" in words(done)


def test_baked_libraries_have_their_data_and_what_actions_made(tmp_path: Path) -> None:
    with tarfile.open(BAKED) as archive:
        archive.extractall(tmp_path, filter="data")
    environ = {"PYTHONPATH": str(tmp_path / "site-packages"), "PYTHONDONTWRITEBYTECODE": "1"}
    inherited = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    said = [
        subprocess.check_output([sys.executable, "-P", "-c", code], env=inherited | environ, text=True)
        for code in (DESCRIBE, NAMESPACE)
    ]
    assert json.loads(said[0]) == DESCRIBED
    assert said[1].split() == ["None", "None"]


def unpacked(launched: Project, directory: Path) -> Project:
    """Return a project that is the code package of another, unpacked into ``directory``."""
    done = launched.run("package", "save", "package.tgz")
    assert done.returncode == 0, words(done)
    container = Project(directory)
    with tarfile.open(launched.directory / "package.tgz") as archive:
        archive.extractall(directory, filter="data")
    packages = [path for path in sys.path if any(Path(path or ".").glob("*.dist-info"))]
    container.variables |= {
        "METAFLOW_EXTRACTED_ROOT": str(directory),
        "PYTHONPATH": os.pathsep.join([str(directory / ".mf_code"), *packages]),
    }
    return container
