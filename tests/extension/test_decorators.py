"""How the environment ``bazel`` lives with Metaflow's decorators and commands, which differ from release to release."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mfbazel.analyze import requirements_sha256
from tests.extension.aws import s3
from tests.extension.project import Project, words

S3 = s3()
NUMPY = '@pypi(packages={"numpy": "2.5.5"})'


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_flow_whose_packages_are_as_locked_runs(project: Project) -> None:
    project.write_flow(NUMPY, body="print('trained')")
    project.write_lock({"numpy": "2.5.5"})
    done = project.run("run")
    assert done.returncode == 0, words(done)
    assert "trained" in done.stdout + done.stderr


def test_packages_given_on_the_command_line_are_compared_too(project: Project) -> None:
    project.write_flow()
    project.write_lock({})
    done = project.run("run", "--with", "pypi:packages={'scipy': '1.0'}".replace("'", '"'))
    assert done.returncode != 0
    assert "scipy==1.0 is new" in words(done)


def test_packages_of_the_flow_and_of_the_step_merge_as_metaflow_merges_them(project: Project) -> None:
    project.write_flow(NUMPY, flow='@pypi_base(packages={"numpy": "1.0"}, python="3.14")', imports="pypi, pypi_base")
    project.write_lock({"numpy": "2.5.5"}, python="3.14")
    for step in (flow := json.loads(project.lock.read_text()))["flow"]["steps"]:
        if step["name"] != "train":
            step["requirements_sha256"] = requirements_sha256("3.14", {"numpy": "1.0"})
    project.lock.write_text(json.dumps(flow))
    done = project.run("run")
    assert done.returncode == 0, words(done)


def test_conda_libraries_count_as_packages_and_the_launching_python_is_not_taken_for_declared(project: Project) -> None:
    project.write_flow('@conda(libraries={"numpy": "2.5.5"})', imports="conda")
    project.write_lock({"numpy": "2.5.5"})
    done = project.run("run")
    assert done.returncode == 0, words(done)


def test_conda_base_is_read_and_installs_nothing(project: Project) -> None:
    project.write_flow(flow='@conda_base(libraries={"numpy": "2.5.5"})', imports="conda_base")
    project.write_lock({"numpy": "2.5.5"})
    for step in (flow := json.loads(project.lock.read_text()))["flow"]["steps"]:
        step["requirements_sha256"] = requirements_sha256(None, {"numpy": "2.5.5"})
    project.lock.write_text(json.dumps(flow))
    done = project.run("run")
    assert done.returncode == 0, words(done)


def test_packages_in_both_pypi_and_conda_are_an_error(project: Project) -> None:
    project.write_flow(f'@conda(packages={{"scipy": "1.0"}})\n    {NUMPY}', imports="pypi, conda")
    project.write_lock({"numpy": "2.5.5"})
    done = project.run("run")
    assert done.returncode != 0
    assert "Step train: it has packages from both @pypi and @conda" in words(done)


@pytest.mark.parametrize(
    ("decorator", "flow"),
    [(NUMPY, ""), ('@conda(packages={"numpy": "2.5.5"})', ""), ("", "@pypi_base"), ("", "@conda_base")],
)
def test_under_another_environment_the_decorators_are_metaflows_own(
    project: Project, decorator: str, flow: str
) -> None:
    project.write_flow(decorator, flow=flow, imports="pypi, conda, pypi_base, conda_base")
    project.variables["METAFLOW_DEFAULT_ENVIRONMENT"] = "local"
    done = project.run("show")
    assert done.returncode != 0
    assert "decorator requires --environment=conda" in words(done)


def test_under_the_environment_pypi_metaflow_reads_what_it_reads_without_the_extension(project: Project) -> None:
    project.write_flow(
        '@pypi(packages={"numpy": "2.5.5"}, python="3.12")',
        flow='@pypi_base(packages={"scipy": "1.18.0"})',
        start='@conda(libraries={"pandas": "3.1.1"}, disabled=True)',
        imports="pypi, pypi_base, conda",
    )
    project.variables |= S3 | {"METAFLOW_DEFAULT_ENVIRONMENT": "pypi"}
    read = []
    for path in (project.path(), project.path().partition(":")[2]):
        project.variables["PYTHONPATH"] = path
        done = project.run("output-raw", "--json")
        assert done.returncode == 0, words(done)
        read.append(json.loads(done.stdout[done.stdout.index("{") :]))
    assert "'numpy': '2.5.5'" in str(read[0]) and "'scipy': '1.18.0'" in str(read[0])
    assert read[0] == read[1]


def test_a_metaflow_that_is_too_old_is_named_with_the_version_that_is_needed(project: Project) -> None:
    project.write_flow()
    project.write_lock({})
    project.directory.joinpath("small_flow.py").write_text(
        "import metaflow.metaflow_version as found\n"
        "found._version_cache.update(dict.fromkeys((True, False), '2.19.16'))\n"
        + project.directory.joinpath("small_flow.py").read_text()
    )
    done = project.run("show")
    assert done.returncode != 0
    assert "Metaflow is too old" in words(done)
    assert "needs Metaflow 2.19.17 or newer, and this is 2.19.16" in words(done)
    assert '`metaflow = "metaflow>=2.19.17"`' in words(done)
    assert project.run("--environment=local", "show").returncode == 0


@pytest.mark.parametrize(
    ("added", "needs_push"),
    [
        ('add_decorator("batch", deco_kwargs={"image": "example/own"})', False),
        ('add_decorator("batch:image=example/own")', False),
        ('add_decorator("batch")', True),
    ],
)
def test_the_image_that_a_mutator_gives_is_the_users_own(project: Project, added: str, *, needs_push: bool) -> None:
    project.variables |= S3
    mutator = f"class Remote(StepMutator):\n    def mutate(self, mutable_step):\n        mutable_step.{added}\n"
    project.write_flow("@Remote", flow=mutator, imports="StepMutator")
    project.write_lock({})
    project.write_images({}, pushed=False)
    done = project.run("package", "list")
    assert ("has no pushed image of step train" in words(done)) == needs_push, words(done)
    assert (done.returncode != 0) == needs_push, words(done)


def test_a_task_runs_on_the_interpreter_of_its_step(project: Project) -> None:
    project.write_flow(body="import sys; print('runs on', sys.executable)")
    project.write_lock({})
    project.make_pythons()
    done = project.run("run")
    assert done.returncode == 0, words(done)
    assert f"runs on {project.directory}/pythons/train/bin/python" in words(done)


def test_a_step_that_is_spun_runs_on_its_interpreter_and_needs_no_image(project: Project) -> None:
    project.write_flow("@kubernetes", body="import sys; print('runs on', sys.executable)", imports="kubernetes")
    project.write_lock({})
    project.make_pythons()
    project.write_images({}, pushed=False)
    local = project.directory.joinpath("small_flow.py").read_text()
    project.directory.joinpath("small_flow.py").write_text(local.replace("@kubernetes", ""))
    assert project.run("run").returncode == 0
    project.directory.joinpath("small_flow.py").write_text(local)
    done = project.run("spin", "train")
    assert done.returncode == 0, words(done)
    assert f"runs on {project.directory}/pythons/train/bin/python" in words(done)


def test_netflixext_beside_mfbazel_is_warned_of(project: Project) -> None:
    project.write_flow()
    project.write_lock({})
    other = project.directory / "other" / "metaflow_extensions" / "netflix_ext" / "config"
    other.mkdir(parents=True)
    other.joinpath("mfextinit_netflixext.py").write_text("")
    project.variables["PYTHONPATH"] = f"{project.directory / 'other'}:{project.path()}"
    done = project.run("run")
    assert done.returncode == 0, words(done)
    assert "metaflow-netflixext is installed beside mfbazel" in words(done)
