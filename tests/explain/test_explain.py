"""What ``.explain`` says of a flow and its lock."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from mfbazel.analyze import read_flow
from mfbazel.errors import MfbazelError
from mfbazel.explain import cli

FLOW = """
from metaflow import FlowSpec, batch, pypi, resources, step

class DemoFlow(FlowSpec):
    @step
    def start(self):
        self.next(self.train)

    @resources(memory=4096, cpu=2)
    @batch(image="registry.example.com/own:1")
    @pypi(packages={"alpha": "1.0"})
    @step
    def train(self):
        import alpha.linear
        from beta import thing
        self.next(self.end)

    @pypi(disabled=True)
    @step
    def end(self):
        pass
"""
WHEELS = {
    "a" * 64: {"name": "alpha", "version": "1.0", "file": "a.whl", "size": 2_500_000, "modules": ["alpha"]},
    "b" * 64: {"name": "beta", "version": "2.0", "file": "b.whl", "size": 1_000_000, "modules": ["beta"]},
    "c" * 64: {"name": "boto3", "version": "3.0", "file": "c.whl", "size": 100_000, "modules": ["boto3"]},
}
TRAIN = """
alpha==1.0
    # via demo_flow.py (train)
beta==2.0
    # via alpha
boto3==3.0
    # via metaflow (runtime)
"""


def write_flow(directory: Path, text: str = FLOW) -> None:
    (directory / "demo_flow.py").write_text(textwrap.dedent(text), encoding="utf-8")


def write_lock(directory: Path, *requirements: str) -> None:
    """Lock the flow as it is in ``directory`` now."""
    environments = {
        "start": {"file": "start.txt", "wheels": {"linux/amd64": ["c" * 64]}},
        "train": {"file": "train.txt", "wheels": {"linux/amd64": list(WHEELS)}, "requirements": requirements},
        "end": {"file": "end.txt", "wheels": {"linux/amd64": ["c" * 64]}},
    }
    document = {
        "schema": 1,
        "flow": read_flow(directory / "demo_flow.py").to_json(),
        "environments": environments,
        "wheels": WHEELS,
        "layers": {"linux/amd64": []},
    }
    lock = directory / "demo.lock"
    lock.mkdir()
    (lock / "flow.json").write_text(json.dumps(document), encoding="utf-8")
    (lock / "train.txt").write_text(TRAIN, encoding="utf-8")
    for step in ("start", "end"):
        (lock / f"{step}.txt").write_text("boto3==3.0\n    # via metaflow (runtime)\n", encoding="utf-8")


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path))
    write_flow(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    arguments = ["--flow", "demo_flow.py", "--lock-dir", "demo.lock", "--label", "//flows:demo", *options]
    assert cli.main(arguments) == 0
    return capsys.readouterr().out


def row(text: str, *start: str) -> list[str]:
    """Return the words of the line that starts with the words ``start``."""
    return next(words for line in text.splitlines() if (words := line.split())[: len(start)] == list(start))


def test_each_step_shows_its_graph_requests_image_and_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lock(tmp_path)
    said = run(capsys)
    assert said.startswith("DemoFlow (demo_flow.py), read statically (")
    assert row(said, "train") == [
        "train",
        "linear",
        "end",
        "2",
        "4096",
        "@batch",
        "registry.example.com/own:1",
        "3",
        "3.6",
    ]
    assert row(said, "end") == ["end", "end", "disabled", "1", "0.1"]


def test_each_package_shows_its_size_and_the_steps_that_have_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lock(tmp_path)
    said = run(capsys)
    assert row(said, "package") == ["package", "version", "MB", "start", "train", "end"]
    assert row(said, "alpha", "1.0", "2.5") == ["alpha", "1.0", "2.5", "●"]
    assert row(said, "boto3", "3.0", "0.1") == ["boto3", "3.0", "0.1", "◇", "◇", "◇"]


def test_what_metaflow_itself_needs_is_shown_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lock(tmp_path)
    own, runtime = run(capsys).split("For Metaflow itself, in every image:\n")
    assert row(own, "beta", "2.0", "1.0") == ["beta", "2.0", "1.0", "○"]
    assert "boto3" not in own
    assert row(runtime, "package") == ["package", "version", "MB", "start", "train", "end"]
    assert "\nbeta 2.0\n" in runtime  # why it is there
    (boto3,) = json.loads(run(capsys, "--json", "--package", "boto3"))["packages"]
    assert boto3["runtime"] == ["start", "train", "end"]


def test_what_a_step_imports_as_well_is_not_there_for_metaflow_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_flow(tmp_path, FLOW.replace("from beta import thing", "import boto3"))
    write_lock(tmp_path)
    said = run(capsys)
    assert row(said, "boto3", "3.0", "0.1")[3:] == ["◇", "○", "◇"]
    assert "For Metaflow itself" not in said


def test_each_package_says_why_it_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lock(tmp_path)
    lines = run(capsys).splitlines()
    assert lines[lines.index("alpha 1.0") + 1] == "  declared in demo_flow.py:11 (@pypi) (train)"
    assert lines[lines.index("alpha 1.0") + 2] == "  imported in demo_flow.py:14 (train)"
    assert lines[lines.index("beta 2.0") + 1 :][:2] == [
        "  imported in demo_flow.py:15 (train)",
        "  needed by alpha (train)",
    ]
    assert lines[lines.index("boto3 3.0") + 1] == "  Metaflow needs it in every image (every step)"


def test_what_was_locked_for_an_import_alone_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lock(tmp_path, "alpha==1.0", "beta")
    lines = run(capsys).splitlines()
    assert lines[lines.index("beta 2.0") + 1] == "  added for the import in demo_flow.py:15 (train)"
    assert row("\n".join(lines), "beta", "2.0", "1.0") == ["beta", "2.0", "1.0", "●"]


def test_json_holds_the_flow_spec_and_the_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lock(tmp_path)
    table = json.loads(run(capsys, "--json", "--package", "alpha"))
    assert table["flow"] == read_flow(tmp_path / "demo_flow.py").to_json()
    assert table["packages"] == [
        {
            "name": "alpha",
            "version": "1.0",
            "size": 2_500_000,
            "runtime": [],
            "steps": {
                "train": [
                    {"kind": "declared", "where": "demo_flow.py:11 (@pypi)"},
                    {"kind": "imported", "where": "demo_flow.py:14"},
                ]
            },
        }
    ]
    assert (table["platform"], table["stale"]) == ("linux/amd64", [])


def test_a_flow_without_a_lock_shows_what_is_declared_and_how_to_lock(capsys: pytest.CaptureFixture[str]) -> None:
    said = run(capsys)
    assert row(said, "alpha") == ["alpha", "●"]
    assert "not locked yet: versions and sizes come with `bazel run //flows:demo.lock`" in said


def test_steps_that_changed_since_they_were_locked_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lock(tmp_path)
    write_flow(tmp_path, FLOW.replace('"1.0"', '"1.1"'))
    said = run(capsys)
    assert "changed since it was locked: train; run `bazel run //flows:demo.lock`" in said


def test_only_the_named_steps_and_packages_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lock(tmp_path)
    said = run(capsys, "--step", "train", "--package", "beta")
    assert row(said, "package") == ["package", "version", "MB", "train"]
    assert row(said, "train")[-2:] == ["3", "3.6"]
    assert "alpha 1.0" not in said
    assert "beta 2.0" in said


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (["--step", "tran"], "--step tran: flow 'DemoFlow' has no such step; it has start, train, end"),
        (["--package", "gamma"], "--package gamma: no step has it; the packages are alpha, beta, boto3"),
        (["--platform", "linux/arm64"], "--platform linux/arm64: the lock is for linux/amd64"),
    ],
)
def test_what_is_not_there_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: list[str], expected: str
) -> None:
    write_lock(tmp_path)
    with pytest.raises(MfbazelError) as error:
        run(capsys, *option)
    assert expected in str(error.value)


def test_output_to_a_pipe_has_no_colours_and_is_not_wrapped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_flow(tmp_path, FLOW.replace("own:1", f"{'long/' * 40}own:1"))
    write_lock(tmp_path)
    said = run(capsys)
    assert "\x1b" not in said
    assert f"registry.example.com/{'long/' * 40}own:1" in said
