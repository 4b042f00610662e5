"""mfbazel in another workspace: real Bazel, a base image that is pulled, the public rules of rules_oci."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.e2e.layouts import Layout
from tests.e2e.other_workspace import WORKSPACE, OtherWorkspace
from tests.e2e.registry import Registry
from tests.extension.aws import batch_queue, job_definitions, s3, simulated_aws, submitted_images
from tests.push.faulty_proxy import Fault, FaultyProxy, Reply

RUNFILES = Path(__file__).absolute().parents[2]
CRANE = RUNFILES / "rules" / "private" / "crane"
BASE = next(RUNFILES.parent.glob("*python_base/python_base*"))
STEPS = ("start", "prepare", "train", "evaluate", "report", "end")

MODULE = """
oci = use_extension("@rules_oci//oci:extensions.bzl", "oci")
oci.pull(name = "base", image = "http://{host}/base", digest = "{digest}")
use_repo(oci, "base")
"""

BUILD = """\
load("@mfbazel//rules:defs.bzl", "metaflow_flow", "step_image")
load("@rules_oci//oci:defs.bzl", "oci_image", "oci_image_index", "oci_load", "oci_push")
load("@rules_pkg//pkg:mappings.bzl", "pkg_files")
load("@rules_python//python:defs.bzl", "py_library")

py_library(name = "modules", srcs = ["churn_config.py", "inspection.py"], imports = ["."])

metaflow_flow(
    name = "churn_flow",
    src = "churn_flow.py",
    base = "@base",
    repository = "{proxy}/ml/{flow}",
    deps = [":modules", "//examples/lib/features"],
)

metaflow_flow(name = "unlocked_flow", src = "churn_flow.py", base = "@base")

pkg_files(name = "settings", srcs = ["churn_config.py"], prefix = "/settings")

step_image(
    name = "training",
    base = "@base",
    environment = "train",
    files = [":settings"],
    lock = "//examples/churn:churn_flow",
)

oci_image(name = "arm", architecture = "arm64", os = "linux", variant = "v8")

oci_image_index(name = "both", images = [":training", ":arm"])

oci_push(name = "push_both", image = ":both", remote_tags = ["latest", "v1"], repository = "{host}/both")

oci_load(name = "load", format = "oci", image = ":training", repo_tags = ["training:latest"])
"""


@dataclass(frozen=True, kw_only=True)
class Workspace(OtherWorkspace):
    """The other workspace, the registry (host and port) that it pushes to, and a proxy before that for the flow."""

    host: str
    proxy: FaultyProxy

    def output(self, name: str) -> Path:
        """Return the path of an output of ``examples/churn``."""
        return self.directory / "bazel-bin" / "examples" / "churn" / name

    def image(self, name: str) -> Layout:
        """Return an image of ``examples/churn``; the assembler has a directory for those of mfbazel's rules."""
        own = self.output("_rules_oci") / name
        return Layout(own if own.is_dir() else self.output(name))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, place: OtherWorkspace) -> Iterator[Workspace]:
    """A copy of the example in a workspace whose base image is in a registry on loopback."""
    scratch = tmp_path_factory.mktemp("another")
    (scratch / "store").mkdir()
    registry = Registry(CRANE, scratch / "store", scratch / "registry.log")
    with registry, FaultyProxy(registry.host) as proxy:
        digest = _push_base(registry.host)
        state = {"MFBAZEL_STATE_DIR": str(scratch / "state")}
        made = Workspace(place.directory, place.output_base, state, host=registry.host, proxy=proxy)
        made.begin()
        directory = made.directory
        shutil.copytree(WORKSPACE / "examples", directory / "examples")
        made.write("BUILD.bazel", 'alias(name = "push_all", actual = "@mfbazel//:push_all")\n')
        module = directory / "MODULE.bazel"
        module.write_text(module.read_text() + MODULE.format(host=registry.host, digest=digest))
        build = BUILD.replace("{host}", registry.host).replace("{proxy}", proxy.host)
        made.write("examples/churn/BUILD.bazel", build)
        forecast = directory / "examples/forecast/BUILD.bazel"
        forecast.write_text(
            forecast.read_text().replace("//rules:defs", "@mfbazel//rules:defs").replace("@python_base", "@base")
        )
        yield made


def _push_base(host: str) -> str:
    """Push the base image; return its digest."""
    command = [str(CRANE), "push", str(BASE), f"{host}/base:latest"]
    pushed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return pushed.strip().rpartition("@")[2]


def _image(package: Path, step: str) -> Layout:
    """Return the image of a step of the churn flow, which images.json names by digest."""
    steps = json.loads((package / "churn_flow.images" / "images.json").read_bytes())["steps"]
    found = [Layout(index.parent) for index in package.glob("*/churn_flow.*/index.json")]
    return next(layout for layout in found if layout.top["digest"] == steps[step]["digest"])


def test_the_flows_images_have_the_layers_that_they_have_here(workspace: Workspace) -> None:
    workspace.built("build", "//examples/churn:churn_flow.images")
    for step in STEPS:
        here = _image(RUNFILES / "examples" / "churn", step).layers()
        assert _image(workspace.output("."), step).layers() == here
        assert len(here) >= 4


def _launch(workspace: Workspace, endpoint: str, queue: Mapping[str, str], *options: str) -> CompletedProcess[str]:
    """Deploy the flow to Step Functions of the simulated AWS, and let it push before."""
    cloud = {**s3(endpoint), **queue, "AWS_ENDPOINT_URL": endpoint, "METAFLOW_USER": "tester"}
    launching = replace(workspace, variables={**workspace.variables, **cloud, "MFBAZEL_PUSH": "auto"})
    command = ["//examples/churn:churn_flow", "--", *options, "step-functions", "create", "--only-json"]
    return launching.bazel("run", *command)


def test_a_launch_that_is_to_push_does_so_once_and_goes_no_further_when_that_fails(workspace: Workspace) -> None:
    proxy = workspace.proxy
    with simulated_aws() as endpoint:
        queue = batch_queue(endpoint)
        done = _launch(workspace, endpoint, queue)
        assert done.returncode == 0, done.stderr
        built = json.loads(workspace.output("churn_flow.images/images.json").read_bytes())["steps"]
        images = {step: f"{proxy.host}/ml/churn_flow@{built[step]['digest']}" for step in STEPS}
        assert submitted_images(json.loads(done.stdout), endpoint) == images
        for image in images.values():
            assert _digest(image.replace(proxy.host, workspace.host)) == image.partition("@")[2]
        assert proxy.of("PUT", "/manifests/")

        proxy.forget()
        done = _launch(workspace, endpoint, queue)
        assert submitted_images(json.loads(done.stdout), endpoint) == images
        assert {seen.method for seen in proxy.seen} == {"GET", "HEAD"}, proxy.seen
        assert "nothing changed, nothing sent" in done.stderr

        # The images are there and recorded: nothing but the failed push can be what stops the launch.
        before = job_definitions(endpoint)
        proxy.script(Fault(Reply(403), "HEAD|GET", "/manifests/", times=0))
        try:
            done = _launch(workspace, endpoint, queue, "--no-verify")
        finally:
            proxy.script()
        assert (done.returncode, done.stdout) == (1, "")
        assert f"{proxy.host} does not let you" in done.stderr
        said = " ".join(done.stderr.split())
        assert "Push failed" in said
        assert "run //examples/churn:churn_flow.push` ended with exit code 1" in said
        assert job_definitions(endpoint) == before


def _digest(image: str) -> str:
    """Return the digest that the registry has for an image."""
    found = subprocess.run([str(CRANE), "digest", image], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def test_one_command_pushes_the_flows_that_bazel_finds_and_another_promotes_them(workspace: Workspace) -> None:
    done = workspace.built("run", "//:push_all", "--", "--json", "//examples/churn:churn_flow")
    (flow,) = json.loads(done.stdout)["flows"]
    assert (flow["label"], flow["state"]) == ("//examples/churn:churn_flow", "pushed")
    assert list(flow["images"]) == list(STEPS)
    to = f"{workspace.proxy.host}/prod/churn"
    workspace.built("run", "//examples/churn:churn_flow.promote", "--", f"--to={to}")
    for image in flow["images"].values():
        digest = image.partition("@")[2]
        assert _digest(f"{to}@{digest}") == digest


def test_a_step_image_needs_no_flow_and_holds_the_files_it_was_given(workspace: Workspace) -> None:
    workspace.built("build", "//examples/churn:training")
    ours = workspace.image("training").layers()
    flows = _image(workspace.output("."), "train").layers()
    assert ours[:-1] == flows[:-1]
    with tarfile.open(workspace.image("training").blob(ours[-1])) as layer:
        assert "settings/churn_config.py" in {name.lstrip("./") for name in layer.getnames()}


def test_an_index_is_pushed_by_digest_and_tagged(workspace: Workspace) -> None:
    done = workspace.built("run", "//examples/churn:push_both")
    both = workspace.image("both")
    digest = both.top["digest"]
    assert f"{workspace.host}/both@{digest}" in done.stdout
    for tag in ("latest", "v1"):
        assert _digest(f"{workspace.host}/both:{tag}") == digest
    platforms = {entry["platform"]["architecture"] for entry in both.document(digest)["manifests"]}
    assert platforms == {"amd64", "arm64"}


def test_the_archive_that_an_engine_loads_holds_the_image(workspace: Workspace) -> None:
    workspace.built("build", "//examples/churn:load", "--output_groups=+tarball", "//examples/churn:load.archive")
    with tarfile.open(workspace.output("load.archive.tar")) as archive:
        index = archive.extractfile("index.json")
        assert index is not None
        (descriptor,) = json.load(index)["manifests"]
    assert descriptor["digest"] == workspace.image("training").top["digest"]


def test_a_flow_that_must_be_run_to_be_read_is_read_as_here(workspace: Workspace) -> None:
    workspace.built("build", "//examples/forecast:forecast_flow.spec")
    spec = json.loads((workspace.directory / "bazel-bin/examples/forecast/forecast_flow.spec.json").read_text())
    assert spec == json.loads((RUNFILES / "examples" / "forecast" / "forecast_flow.spec.json").read_text())
    assert spec["reading"]["way"] == "dynamic"


def test_explain_shows_why_a_package_is_there(workspace: Workspace) -> None:
    said = workspace.built("run", "//examples/churn:churn_flow.explain", "--", "--package", "scipy").stdout
    assert re.search(r"^scipy [0-9.]+\n  needed by scikit-learn \(train\)$", said, re.MULTILINE)


def test_an_import_that_nobody_declares_fails_the_imports_test_with_the_line_to_add(workspace: Workspace) -> None:
    workspace.built("test", "//examples/churn:churn_flow.imports_test")
    source = workspace.directory / "examples" / "churn" / "churn_flow.py"
    text = source.read_text()
    changed = text.replace("    def start(self):\n", "    def start(self):\n        import pandas\n")
    line = changed[: changed.index("import pandas\n")].count("\n") + 1
    source.write_text(changed)
    try:
        done = workspace.bazel("test", "//examples/churn:churn_flow.imports_test", "--test_output=errors")
    finally:
        source.write_text(text)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert f"churn_flow.py:{line}" in said
    assert re.search(r'"pandas": "[0-9.]+"', said)


def test_a_flow_without_a_lock_says_which_command_makes_it(workspace: Workspace) -> None:
    for target in ("", ".push", ".load"):
        done = workspace.bazel("run", f"//examples/churn:unlocked_flow{target}")
        assert done.returncode != 0
        assert "Make it with: bazel run //examples/churn:unlocked_flow.lock" in done.stderr


def test_a_stale_lock_stops_the_build_and_names_step_package_and_command(workspace: Workspace) -> None:
    source = workspace.directory / "examples" / "churn" / "churn_flow.py"
    text = source.read_text()
    changed = re.sub(r'"pandas": "[^"]*"', '"pandas": "2.3.3"', text)
    assert changed != text
    source.write_text(changed)
    try:
        done = workspace.bazel("run", "//examples/churn:churn_flow.push")
    finally:
        source.write_text(text)
    assert done.returncode != 0
    assert "step 'prepare': pandas==2.3.3 is required" in done.stderr
    assert "bazel run //examples/churn:churn_flow.lock" in done.stderr
