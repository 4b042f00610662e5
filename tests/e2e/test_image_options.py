"""What can be said of images, in another workspace, and native ones wherever rules_oci's can be; Bazel in Bazel.

The flow, its packages and its base images are made up and small: an image here is a list of layers, and nothing runs in
it. With checkouts of rules_oci (docs/design/rules_oci.md), those that take the images are rules_oci's own rules.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.layouts import INDEX, Json, Layout
from tests.e2e.other_workspace import OtherWorkspace
from tests.e2e.registry import Registry
from tests.lock.wheelhouse import wheel

CRANE = Path(__file__).absolute().parents[2] / "rules" / "private" / "crane"
SITE = "opt/venv/lib/python3.14/site-packages"
FLOW = """\
from metaflow import FlowSpec, kubernetes, pypi, resources, step

import shapes


class Shop(FlowSpec):
    @step
    def start(self):
        self.next(self.train)

    @resources(gpu=1)
    @pypi(packages={"alpha": "1.0"})
    @step
    def train(self):
        self.next(self.evaluate)

    @pypi(packages={"alpha": "1.0", "beta": "1.0"})
    @step
    def evaluate(self):
        self.next(self.report)

    @kubernetes(node_selector="kubernetes.io/arch=arm64")
    @pypi(packages={"gamma": "1.0"})
    @step
    def report(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    Shop()
"""
MODULE = """
locks = use_extension("@mfbazel//rules:extensions.bzl", "locks")
use_repo(locks, "mfbazel_locks")

bazel_dep(name = "platforms", version = "0.0.10")
"""
BASES = """\
load("@mfbazel//rules:defs.bzl", "metaflow_flow")
load("@rules_oci//oci:defs.bzl", "oci_image")
load("@rules_pkg//pkg:mappings.bzl", "pkg_files")
load("@rules_pkg//pkg:pkg.bzl", "pkg_tar")
load("@rules_python//python:defs.bzl", "py_library")

package(default_visibility = ["//visibility:public"])

exports_files(["shop.lock/flow.json"])

pkg_tar(name = "python", srcs = ["python3.14"], mode = "0755", package_dir = "/usr/local/bin")

[
    [
        pkg_tar(name = kind + ".files", srcs = ["python3.14"], package_dir = "/" + kind),
        [
            oci_image(
                name = "{}_linux_{}".format(kind, architecture),
                architecture = architecture,
                os = "linux",
                env = {"PATH": "/usr/local/bin:/bin", "KIND": kind},
                tars = [":python", kind + ".files"],
            )
            for architecture in ["amd64", "arm64"]
        ],
        # As oci.pull declares it.
        alias(
            name = kind,
            actual = select(
                {
                    "@platforms//cpu:x86_64": "{}_linux_amd64".format(kind),
                    "@platforms//cpu:aarch64": "{}_linux_arm64".format(kind),
                },
            ),
        ),
    ]
    for kind in ["base", "cuda", "plain"]
]

alias(
    name = "amd64_alone",
    actual = select(
        {"@platforms//cpu:x86_64": "base_linux_amd64"},
        no_match_error = "@amd64_alone is for linux/amd64 alone",
    ),
)
"""
SHOP = """
py_library(name = "shapes", srcs = ["shapes.py"], imports = ["."])

pkg_files(name = "settings", srcs = ["settings.json"], prefix = "/etc/shop")

metaflow_flow(
    name = "shop",
    src = "shop.py",
    annotations = {"com.example.step": "{flow}/{step}", "com.example.commit": "{STABLE_GIT_COMMIT}"},
    bake_deps = True,
    base = "//:base",
    bases = {"gpu": "//:cuda", "evaluate": "train"},
    compression = "gzip",
    deps = [":shapes"],
    entrypoint = ["/bin/tool", "--text=a, b\\nc"],
    env = {"MODE": "a=b c", "PATH": "/first:$PATH"},
    files = [":settings"],
    images = {"default": "//:plain"},
    labels = {"com.example.team": "a=b c"},
    metaflow = "metaflow==99",
    platforms = ["linux/amd64", "linux/arm64"],
    python = "3.14",
    remote_tags = ["{step}-{STABLE_GIT_COMMIT}", "{step}-{platform}"],
    repository = "HOST/shops/{flow}",
    user = "1000:1000",
    workdir = "/work",
)
"""
USE = """\
load("@mfbazel//rules:defs.bzl", "step_image")
load("@rules_oci//oci:defs.bzl", "oci_image", "oci_image_index", "oci_load", "oci_push")
load("@rules_pkg//pkg:pkg.bzl", "pkg_tar")

# Docker's archives hold no zstd.
step_image(name = "tool", base = "//:base", compression = "gzip", environment = "report", lock = "//:shop", stamp = 0)

pkg_tar(name = "extra", srcs = ["BUILD.bazel"], package_dir = "/extra")

oci_image(name = "on_top", base = ":tool.linux_amd64", env = {"OVER": "$PATH:x"}, tars = [":extra"])

oci_image_index(name = "both", images = [":tool.linux_amd64", ":tool.linux_arm64"])

[
    oci_push(name = "push_" + image, image = image, remote_tags = ["v1"], repository = "HOST/use/" + image)
    for image in ["on_top", "tool"]
]

[
    oci_load(name = "load_" + image.partition(".")[0], image = image, repo_tags = [image + ":v1"])
    for image in ["on_top", "tool.linux_amd64"]
]
"""
BROKEN = """\
load("@mfbazel//rules:defs.bzl", "metaflow_flow")

metaflow_flow(
    name = "shop",
    src = "shop.py",
    infer = "off",
    metaflow = "metaflow==99",
    platforms = ["linux/amd64", "linux/arm64"],
    python = "3.14",
    {attributes}
)
"""
STATUS = """\
#!/bin/sh
echo STABLE_GIT_COMMIT 0123abc
echo STABLE_GIT_URL https://git.example.com/shop
"""


@dataclass(frozen=True)
class Shop(OtherWorkspace):
    """The workspace, and the registry (host and port) that it pushes to."""

    host: str = ""

    def layout(self, name: str, package: str = "") -> Layout:
        """Return an image that was built: one of the native assembler's, or of one of rules_oci's own rules."""
        outputs = self.directory / "bazel-bin" / package
        native = outputs / "_native" / name
        return Layout(native if native.is_dir() else outputs / name)

    def steps(self) -> Json:
        """Return what the build's ``images.json`` says of the steps."""
        content = json.loads((self.directory / "bazel-bin" / "shop.images" / "images.json").read_bytes())
        found: Json = content["steps"]
        return found


NATIVE = ("--@mfbazel//rules:assembler=native", "--stamp", "--workspace_status_command=./status.sh")


def crane(*arguments: str | Path) -> str:
    """Return what crane says; it must succeed."""
    done = subprocess.run([str(CRANE), *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"crane {arguments}: {done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, place: OtherWorkspace) -> Iterator[Shop]:
    """The workspace, locked and built."""
    scratch = tmp_path_factory.mktemp("shop")
    for name in ("metaflow", "packaging", "boto3", "requests"):
        wheel(scratch / "wheels", name, "99.0")
    for name in ("alpha", "beta", "gamma"):
        wheel(scratch / "wheels", name, "1.0")
    wheel(scratch / "wheels", "alpha", "2.0")
    variables = {
        **{name: "" for name in os.environ if name.startswith(("PIP_", "UV_"))},
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_FIND_LINKS": str(scratch / "wheels"),
        "PIP_NO_INDEX": "1",
        "UV_NO_CONFIG": "1",
        "MFBAZEL_STATE_DIR": str(scratch / "state"),
        "SOURCE_DATE_EPOCH": "1700000000",
    }
    (scratch / "store").mkdir()
    with Registry(CRANE, scratch / "store", scratch / "registry.log") as registry:
        assert isinstance(registry, Registry)
        made = Shop(place.directory, place.output_base, variables, host=registry.host)
        _write(made)
        made.built("run", "//:shop.lock")
        made.built("build", *NATIVE, "--output_groups=+tarball", "//:shop.images", "//use:all")
        yield made


def _write(shop: Shop) -> None:
    shop.begin()
    module = shop.directory / "MODULE.bazel"
    module.write_text(module.read_text(encoding="utf-8") + MODULE, encoding="utf-8")
    shop.write("BUILD.bazel", BASES + SHOP.replace("HOST", shop.host))
    shop.write("use/BUILD.bazel", USE.replace("HOST", shop.host))
    shop.write("shop.py", FLOW)
    shop.write("shapes.py", "SQUARE = 4\n")
    shop.write("settings.json", "{}\n")
    shop.write("python3.14", "no interpreter, but a file of its name\n")
    shop.write("status.sh", STATUS)
    (shop.directory / "status.sh").chmod(0o755)


def files(layout: Layout, architecture: str) -> dict[str, int]:
    """Return every path in an image's layers, with the mode."""
    found: dict[str, int] = {}
    for digest in layout.layers(architecture):
        with tarfile.open(layout.blob(digest)) as tar:
            found |= {member.name.removeprefix("./").rstrip("/"): member.mode for member in tar}
    return found


def config(layout: Layout, architecture: str) -> dict[str, Any]:
    """Return the container's part of an image's configuration."""
    found: dict[str, Any] = layout.config(layout.manifest(architecture))["config"]
    return found


def test_bases_are_chosen_by_step_and_by_what_a_step_requests(shop: Shop) -> None:
    train, report = shop.layout("shop.train"), shop.layout("shop.report")
    assert {"cuda/python3.14", f"{SITE}/alpha.py"} <= files(train, "amd64").keys()
    assert {"base/python3.14", f"{SITE}/gamma.py"} <= files(report, "arm64").keys()
    assert not {"base/python3.14", f"{SITE}/gamma.py"} & files(train, "amd64").keys()


def test_an_image_derived_from_another_steps_adds_what_that_lacks_and_repeats_no_layer(shop: Shop) -> None:
    train, evaluate = shop.layout("shop.train"), shop.layout("shop.evaluate")
    for architecture in ("amd64", "arm64"):
        below, layers = train.layers(architecture), evaluate.layers(architecture)
        assert layers[: len(below)] == below
        assert len(set(layers)) == len(layers) > len(below)
        assert {f"{SITE}/alpha.py", f"{SITE}/beta.py", "cuda/python3.14"} <= files(evaluate, architecture).keys()
        added = [digest for digest in layers if digest not in below]
        assert len(added) == 1
    base = evaluate.manifest("amd64")["annotations"]["org.opencontainers.image.base.digest"]
    assert base == next(
        entry["digest"]
        for entry in train.document(train.top["digest"])["manifests"]
        if entry["platform"]["architecture"] == "amd64"
    )


def test_steps_without_packages_take_the_image_that_they_are_given(shop: Shop) -> None:
    steps, start = shop.steps(), shop.layout("shop.start")
    assert steps["start"]["digest"] == steps["end"]["digest"] == start.top["digest"]
    assert steps["start"]["platforms"] == ["linux/amd64", "linux/arm64"]
    for architecture in ("amd64", "arm64"):
        assert "KIND=plain" in config(start, architecture)["Env"]
        assert len(start.layers(architecture)) == 2, "as it is, and nothing on top"
    assert "lock" not in steps["start"]
    assert steps["train"]["digest"] == shop.layout("shop.train").top["digest"]


def test_a_step_that_asks_for_a_platform_has_an_image_for_that_platform_alone(shop: Shop) -> None:
    report, train = shop.layout("shop.report"), shop.layout("shop.train")
    assert [report.config(manifest)["architecture"] for manifest in report.manifests()] == ["arm64"]
    assert report.top["mediaType"] != INDEX
    assert [train.config(manifest)["architecture"] for manifest in train.manifests()] == ["amd64", "arm64"]
    assert train.top["mediaType"] == INDEX


def test_what_containers_are_told_is_in_the_configuration(shop: Shop) -> None:
    for architecture in ("amd64", "arm64"):
        said = config(shop.layout("shop.evaluate"), architecture)
        assert said["Entrypoint"] == ["/bin/tool", "--text=a, b\nc"]
        assert (said["User"], said["WorkingDir"]) == ("1000:1000", "/work")
        assert said["Labels"] == {"com.example.team": "a=b c", "org.opencontainers.image.title": "shop"}
        environment = dict(entry.split("=", 1) for entry in said["Env"])
        assert environment["MODE"] == "a=b c"
        assert environment["PATH"].endswith("/usr/local/bin:/bin")
        assert environment["PATH"].startswith("/first:")
        assert environment["KIND"] == "cuda"


def test_first_party_files_and_modules_are_in_the_image_and_the_workdir_is_anybodys(shop: Shop) -> None:
    found = files(shop.layout("shop.train"), "arm64")
    assert {"etc/shop/settings.json", f"{SITE}/shapes.py"} <= found.keys()
    assert found["work"] & 0o777 == 0o777


def test_layers_are_compressed_as_the_flow_says(shop: Shop) -> None:
    layout = shop.layout("shop.train")
    manifest = layout.manifest("amd64")
    packages = [layer for layer in manifest["layers"] if _holds(layout, layer["digest"], SITE + "/alpha.py")]
    assert [layer["mediaType"].rpartition("+")[2] for layer in packages] == ["gzip"]
    assert not [layer for layer in manifest["layers"] if layer["mediaType"].endswith("zstd")]


def _holds(layout: Layout, digest: str, name: str) -> bool:
    with tarfile.open(layout.blob(digest)) as tar:
        return name in {member.name.removeprefix("./") for member in tar}


def test_a_stamped_image_says_when_and_of_what_it_was_made(shop: Shop) -> None:
    layout = shop.layout("shop.train")
    manifest = layout.manifest("amd64")
    index = layout.document(layout.top["digest"])
    created = layout.config(manifest)["created"]
    assert created == "2023-11-14T22:13:20Z", "that of SOURCE_DATE_EPOCH, so that it is known what makes it again"
    for said in (manifest["annotations"], index["annotations"]):
        assert said["org.opencontainers.image.created"] == created
        assert said["org.opencontainers.image.revision"] == "0123abc"
        assert said["org.opencontainers.image.source"] == "https://git.example.com/shop"
        assert said["com.example.step"] == "shop/train"
        assert said["com.example.commit"] == "0123abc"
        assert said["mfbazel.flow"] == "//:shop"
        assert re.fullmatch("[0-9a-f]{16}", said["mfbazel.lock"])


def test_an_image_that_is_never_stamped_says_nothing_of_it(shop: Shop) -> None:
    layout = shop.layout("tool", "use")
    for manifest in layout.manifests():
        assert layout.config(manifest)["created"] == "1970-01-01T00:00:00Z"
        assert not [
            key for key in manifest["annotations"] if key.rpartition(".")[2] in ("created", "revision", "source")
        ]


def test_a_push_names_repository_and_tags_after_the_templates(shop: Shop) -> None:
    done = shop.built("run", *NATIVE, "//:shop.push")
    train, report = shop.layout("shop.train"), shop.layout("shop.report")
    assert f"{shop.host}/shops/shop@{train.top['digest']}" in done.stdout + done.stderr
    tags = crane("ls", f"{shop.host}/shops/shop").split()
    steps = ("start", "train", "evaluate", "report", "end")
    assert {f"{step}-0123abc" for step in steps} <= set(tags)
    assert {tag for tag in tags if tag.startswith(("train", "report"))} == {
        "train-0123abc",
        "train-linux-amd64",
        "train-linux-arm64",
        "report-0123abc",
        "report-linux-arm64",
    }
    assert crane("digest", f"{shop.host}/shops/shop:train-0123abc") == train.top["digest"]
    assert crane("digest", f"{shop.host}/shops/shop:report-linux-arm64") == report.top["digest"]
    (arm,) = [
        entry["digest"]
        for entry in train.document(train.top["digest"])["manifests"]
        if entry["platform"]["architecture"] == "arm64"
    ]
    assert crane("digest", f"{shop.host}/shops/shop:train-linux-arm64") == arm


def test_an_old_commit_gives_the_images_that_were_pushed_from_it(shop: Shop) -> None:
    """As docs/runs.md says; of what the newer commit changes, one image is built, and has to be built again."""
    shop.begin_history()
    commit = shop.git("rev-parse", "HEAD").strip()
    try:
        digests = {step: image["digest"] for step, image in shop.steps().items()}
        shop.write("shop.py", FLOW.replace('"alpha": "1.0"', '"alpha": "2.0"'))
        shop.write("shapes.py", "SQUARE = 5\n")
        shop.built("run", "//:shop.lock")
        shop.git("commit", "-q", "-a", "-m", "newer")
        shop.built("build", *NATIVE, "//:shop.train")
        assert shop.layout("shop.train").top["digest"] != digests["train"]
        shop.git("checkout", "-q", commit)
        said = shop.built("run", *NATIVE, "//:shop.push", "--", "--dry-run").stdout
        printed = dict(re.findall(r"^(\w+) +→ (.*)$", said, re.MULTILINE))
        assert printed == {step: f"{shop.host}/shops/shop@{digest}" for step, digest in digests.items()}
    finally:
        shop.git("checkout", "-q", "-f", commit)
        shutil.rmtree(shop.directory / ".git")


def test_a_native_image_is_a_base_of_oci_image(shop: Shop) -> None:
    tool, on_top = shop.layout("tool", "use"), shop.layout("on_top", "use")
    assert on_top.layers()[:-1] == tool.layers("amd64")
    assert _holds(on_top, on_top.layers()[-1], "extra/BUILD.bazel")
    path = dict(entry.split("=", 1) for entry in config(tool, "amd64")["Env"])["PATH"]
    assert dict(entry.split("=", 1) for entry in config(on_top, "amd64")["Env"])["OVER"] == f"{path}:x"


@pytest.mark.parametrize("image", ["on_top", "tool"])
def test_native_images_are_pushed_by_oci_push(shop: Shop, image: str) -> None:
    shop.built("run", *NATIVE, f"//use:push_{image}")
    assert crane("digest", f"{shop.host}/use/{image}:v1") == shop.layout(image, "use").top["digest"]
    assert "PASS" in crane("validate", "--fast", "--remote", f"{shop.host}/use/{image}:v1")


def test_native_images_are_put_together_by_oci_image_index(shop: Shop) -> None:
    both, tool = shop.layout("both", "use"), shop.layout("tool", "use")
    for architecture in ("amd64", "arm64"):
        assert both.layers(architecture) == tool.layers(architecture)
        for digest in both.layers(architecture):
            assert both.blob(digest).is_file()


@pytest.mark.parametrize(("target", "image"), [("load_on_top", "on_top"), ("load_tool", "tool.linux_amd64")])
def test_native_images_are_archived_by_oci_load(shop: Shop, tmp_path: Path, target: str, image: str) -> None:
    outputs = shop.directory / "bazel-bin" / "use"
    (archive,) = [*outputs.glob(f"{target}.*.tar"), *outputs.glob(f"{target}/*.tar")]
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    layout = shop.layout(image, "use")
    assert {digest.partition(":")[2] for digest in layout.layers()} <= {
        path.name.partition(".")[0] for path in tmp_path.rglob("*")
    }


BROKEN_CASES = {
    "unknown": (
        'base = "//:base", bases = {"gpus": "//:cuda"}',
        'attribute `bases`: "gpus" is neither a step of the flow (start, train, evaluate, report, end) nor one of',
    ),
    "cycle": (
        'base = "//:base", bases = {"train": "evaluate", "evaluate": "train"}',
        "image of step train is to be derived from that of step evaluate, which is derived from itself",
    ),
    "foreign": (
        'base = "//:base", bases = {"train": "start"}, images = {"default": "//:plain"}',
        "is to be derived from that of step start, which has an image that is not made from the lock",
    ),
    "narrower": (
        'base = "//:base", bases = {"train": "report"}',
        "the image of step train is for linux/amd64, linux/arm64, and that of step report, its base, for linux/arm64",
    ),
    "none": (
        'bases = {"gpu": "//:cuda"}',
        'step start has no base image: set `base`, or `bases` with the key "default"',
    ),
    "condition": (
        'base = "//:base", bases = {"gpu": "//:cuda"}',
        'attribute `bases`: "gpu" is a condition and also a step of the flow; rename the step',
    ),
    "lines": (
        'base = "//:base", env = {"TEXT": "a\\nb"}',
        'attribute `env`: "TEXT" has several lines: "a\\nb". Write it as one',
    ),
    "alias": ('base = "//:amd64_alone"', "@amd64_alone is for linux/amd64 alone"),
}


@pytest.fixture(scope="module")
def errors(shop: Shop) -> str:
    """What one build of all flows that cannot be says; nothing is executed."""
    for name, (attributes, _) in BROKEN_CASES.items():
        _write_broken(shop, f"broken/{name}", attributes)
    lock = shop.directory / "broken" / "condition" / "shop.lock"
    (lock / "report.txt").rename(lock / "gpu.txt")
    text = (lock / "flow.json").read_text(encoding="utf-8")
    (lock / "flow.json").write_text(
        text.replace('"report"', '"gpu"').replace("report.txt", "gpu.txt"), encoding="utf-8"
    )
    targets = [f"//broken/{name}:shop.images" for name in BROKEN_CASES]
    done = shop.bazel("build", "--keep_going", "--nobuild", *targets)
    assert done.returncode != 0
    return done.stderr


def _write_broken(shop: Shop, package: str, attributes: str) -> None:
    shop.write(f"{package}/BUILD.bazel", BROKEN.format(attributes=attributes))
    shop.write(f"{package}/shop.py", FLOW.replace("import shapes\n", ""))
    shutil.copytree(shop.directory / "shop.lock", shop.directory / package / "shop.lock")


@pytest.mark.parametrize("case", BROKEN_CASES)
def test_what_cannot_be_is_an_error_that_says_why(errors: str, case: str) -> None:
    assert BROKEN_CASES[case][1] in errors
    assert f"//broken/{case}:shop" in errors


def test_a_base_without_one_of_the_platforms_is_an_error_that_names_those_it_has(shop: Shop) -> None:
    _write_broken(shop, "broken/layout", 'base = "//:base_linux_amd64"')
    done = shop.bazel("build", "//broken/layout:shop.train")
    assert done.returncode != 0
    assert "no image for the platform linux/arm64; it has: linux/amd64" in done.stderr


POLICY = """\
contact = "#ml-platform"

[allowed]
bases = {bases}
registries = ["{registries}"]
packages = {packages}
"""


def test_the_policy_of_the_repository_is_enforced_by_a_build_and_names_its_rule(shop: Shop) -> None:
    rules = {"bases": '["//:plain_*", "//:cuda_*"]', "registries": "registry.example.com", "packages": '["*-*"]'}
    shop.write("mfbazel.toml", POLICY.format(**rules))
    try:
        done = shop.bazel("build", "--keep_going", "//:shop.images", "//:shop.report")
        assert done.returncode != 0
        assert "the base image //:base_linux_arm64 (sha256:" in done.stderr
        assert "not in [allowed] bases of mfbazel.toml, which has //:plain_*, //:cuda_*" in done.stderr
        assert "alpha 1.0 (evaluate, train): not in [allowed] packages of mfbazel.toml, which has *-*" in done.stderr
        assert "Choose something else, or ask #ml-platform." in done.stderr
        allowed = {"bases": '["//:*"]', "packages": '["*"]'}
        shop.write("mfbazel.toml", POLICY.format(**rules | allowed))
        done = shop.bazel("build", "//:shop.images")
        assert "the repository " + shop.host + "/shops/shop: not in [allowed] registries of mfbazel.toml" in done.stderr
        shop.write("mfbazel.toml", POLICY.format(**rules | allowed | {"registries": shop.host}))
        shop.built("build", "//:shop.images")
    finally:
        (shop.directory / "mfbazel.toml").unlink()


def test_a_layer_that_was_changed_in_the_disk_cache_is_not_taken(shop: Shop, tmp_path: Path) -> None:
    """Limits of wheels make other actions of the layers, which are the same: they are made again, and cached."""
    layout = shop.layout("shop.train")
    layers = layout.manifest("amd64")["layers"]
    digest = next(layer["digest"] for layer in layers if _holds(layout, layer["digest"], SITE + "/alpha.py"))
    options = (*NATIVE, f"--disk_cache={tmp_path}", "--@mfbazel//rules:wheel_limits=files=1000")
    shop.built("build", *options, "//:shop.train")
    name = digest.removeprefix("sha256:")
    cached = tmp_path / "cas" / name[:2] / name
    good = cached.read_bytes()
    cached.chmod(0o644)
    cached.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    layout.blob(digest).resolve().unlink()
    try:
        done = shop.bazel("build", *options, "//:shop.train")
        noticed = done.returncode != 0 and "does not match received digest" in done.stderr
        assert noticed or layout.blob(digest).read_bytes() == good, done.stderr[-2000:]
    finally:
        shop.built("build", *NATIVE, "//:shop.train")
    assert layout.blob(digest).read_bytes() == good
