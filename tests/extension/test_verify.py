"""Images are asked for at their registry before anything is scheduled, and pushed first where the user says so."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mfbazel.state import images_path
from tests.extension.aws import s3
from tests.extension.project import Project, digest_of, image_of, plugin, words

S3 = s3()
bazel_verify: Any = plugin("bazel_verify")
errors: Any = plugin("bazel_errors")
StepRun: Any = plugin("bazel_images").StepRun


@dataclass
class Registry:
    """A registry that answers for manifests alone.

    Attributes:
        port: on loopback.
        there: digests that it has.
        status: of the answer for the others.
        asked: how often each digest was asked for.
    """

    port: int = 0
    there: set[str] = field(default_factory=set)
    status: int = 404
    asked: Counter[str] = field(default_factory=Counter)

    @property
    def repository(self) -> str:
        """A repository of it."""
        return f"127.0.0.1:{self.port}/ml/small"


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            digest = self.path.rpartition("/")[2]
            if digest:
                made.asked[digest] += 1
            self.send_response(200 if digest in made.there or not digest else made.status)
            self.send_header("Docker-Content-Digest", digest)
            self.send_header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
            self.send_header("Content-Length", "2")
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()


@pytest.fixture
def project(tmp_path: Path, registry: Registry) -> Project:
    """A pushed flow with one remote step, whose images are to be verified; its datastore is out of reach."""
    made = Project(tmp_path)
    made.variables |= S3
    del made.variables["MFBAZEL_VERIFY"]
    made.write_flow("@batch", imports="batch")
    made.write_lock({})
    made.write_images({}, repository=registry.repository)
    return made


@pytest.mark.parametrize("arguments", [("run",), ("resume", "--origin-run-id", "1")])
def test_an_image_that_the_registry_lacks_is_an_error_before_anything_is_scheduled(
    project: Project, registry: Registry, arguments: tuple[str, ...]
) -> None:
    done = project.run(*arguments)
    said = words(done)
    assert done.returncode != 0
    assert "Image not in the registry" in said
    assert f"train: {registry.repository}@{digest_of('train')}" in said
    assert "Run `bazel run //flows:small_flow.push`" in said
    assert "bazel run //flows:small_flow -- --no-verify" in said
    assert "Workflow starting" not in said


def test_only_what_remote_steps_run_in_is_asked_for(project: Project, registry: Registry) -> None:
    project.write_flow("@batch", start='@batch(image="example/own")', imports="batch")
    assert "Image not in the registry" in words(project.run("run"))
    assert registry.asked.keys() == {digest_of("train")}


def test_making_the_code_package_asks_no_registry(project: Project, registry: Registry) -> None:
    assert project.run("package", "list").returncode == 0
    assert not registry.asked


def test_a_step_that_spin_runs_here_needs_no_image(project: Project, registry: Registry) -> None:
    project.images.unlink()
    assert "has not been pushed" not in words(project.run("spin", "train"))
    assert not registry.asked


def test_a_registry_that_cannot_be_asked_is_another_error_and_can_be_left_alone(
    project: Project, registry: Registry
) -> None:
    project.write_images({}, repository="127.0.0.1:9/ml/small")
    said = words(project.run("run"))
    assert "Registry does not answer for an image" in said
    assert f"train: 127.0.0.1:9/ml/small@{digest_of('train')}" in said
    assert "MFBAZEL_VERIFY=0" in said
    assert "small_flow.push" not in said
    registry.status = 401
    project.write_images({}, repository=registry.repository)
    assert "Registry does not answer for an image" in words(project.run("run"))


def test_each_image_is_asked_for_once_and_within_the_time_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MFBAZEL_VERIFY", raising=False)
    monkeypatch.setenv("MFBAZEL_VERIFY_TIMEOUT", "2.5")
    asked: list[object] = []

    def confirm(references: Any, *, timeout: float) -> dict[str, None]:
        asked.append((list(references), timeout))
        return dict.fromkeys(references)

    runs = [StepRun("start", image_of("a")), StepRun("end", image_of("a")), StepRun("train", image_of("b"))]
    bazel_verify.verify([*runs, StepRun("own", "example/own", given=True), StepRun("here")], confirm)
    assert asked == [([image_of("a"), image_of("b")], 2.5)]
    monkeypatch.setenv("MFBAZEL_VERIFY", "0")
    bazel_verify.verify(runs, confirm)
    assert len(asked) == 1


def test_images_with_one_problem_share_a_line_of_the_error() -> None:
    def confirm(references: Any, **_: Any) -> dict[str, Any]:
        return {name: Problem(f"no {name}") for name in references}

    class Problem(SimpleNamespace):
        def __init__(self, text: str) -> None:
            super().__init__(kind=SimpleNamespace(name="MISSING"), text=text)

        def __str__(self) -> str:
            return str(self.text)

    runs = [StepRun(f"s{number}", image_of(f"s{number}")) for number in range(50)]
    with pytest.raises(errors.MissingImageException) as raised:
        bazel_verify.verify(runs, confirm)
    lines = str(raised.value.message).splitlines()
    assert lines[0] == (
        f"*s0*, *s1*, *s2*, *s3*, *s4*, *s5* and 44 more: {image_of('s0')} and 49 more: no {image_of('s0')}"
    )
    assert len(lines) == 2


@pytest.mark.parametrize("seconds", ["soon", "0", "-1", "nan", "inf"])
def test_a_time_limit_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, seconds: str) -> None:
    monkeypatch.delenv("MFBAZEL_VERIFY", raising=False)
    monkeypatch.setenv("MFBAZEL_VERIFY_TIMEOUT", seconds)
    with pytest.raises(errors.BazelException, match="not a number of seconds above 0"):
        bazel_verify.verify([StepRun("a", image_of("a"))], dict)


def test_a_push_that_is_asked_for_precedes_the_reading_of_the_images(project: Project) -> None:
    """A fake Bazel records how it was called, and its push writes ``images.json`` where the launcher looks for it."""
    state = project.directory / "state"
    record = images_path(project.directory, "//flows:small_flow", {"MFBAZEL_STATE_DIR": str(state)})
    pushed = project.images.read_text()
    del project.variables["MFBAZEL_IMAGES"]
    bazel = project.directory / "fake-bazel"
    bazel.write_text(
        "#!/bin/sh\n"
        f'echo "$PWD $* ${{MFBAZEL_FLOW_LOCK-}}" >{project.directory}/called\n'
        "echo building\n"
        f"cp {project.directory}/pushed.json {record}\n"
    )
    bazel.chmod(0o755)
    project.directory.joinpath("pushed.json").write_text(pushed)
    record.parent.mkdir(parents=True)
    project.variables |= {
        "BUILD_WORKSPACE_DIRECTORY": str(project.directory),
        "MFBAZEL_BAZEL": f"{bazel} --startup",
        "MFBAZEL_PUSH": "auto",
        "MFBAZEL_RUNFILES": "/base/execroot/_main/bazel-out/k8-fastbuild/bin/flows/small_flow.runfiles",
        "MFBAZEL_STATE_DIR": str(state),
    }
    done = project.run("run")
    assert "building" in done.stderr
    assert "Image not in the registry" in words(done)
    called = project.directory.joinpath("called").read_text()
    assert called == f"{project.directory} --startup --output_base=/base run //flows:small_flow.push \n"
    bazel.write_text("#!/bin/sh\necho no such target >&2\nexit 7\n")
    done = project.run("run")
    assert done.returncode != 0
    assert "no such target" in done.stderr
    assert "run //flows:small_flow.push` ended with exit code 7" in words(done)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"MFBAZEL_PUSH": "yes"}, "MFBAZEL_PUSH is 'yes'; it can be `auto`, or unset"),
        ({"MFBAZEL_PUSH": "auto"}, "needs the flow's label"),
        (
            {"MFBAZEL_PUSH": "auto", "MFBAZEL_FLOW_LABEL": "//a:b", "MFBAZEL_IMAGES": "images.json"},
            "MFBAZEL_IMAGES names others",
        ),
        (
            {"MFBAZEL_PUSH": "auto", "MFBAZEL_FLOW_LABEL": "//a:b", "BUILD_WORKSPACE_DIRECTORY": "/", "PATH": ""},
            "neither bazelisk nor bazel is on PATH: name yours in MFBAZEL_BAZEL",
        ),
    ],
)
def test_a_push_that_cannot_be_made_says_why(variables: dict[str, str], said: str) -> None:
    with pytest.raises(errors.BazelException) as raised:
        plugin("bazel_push").push_if_asked(print, variables)
    assert said in str(raised.value.message)
