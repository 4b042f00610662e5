"""A policy that takes a package from a private index alone, locked and built by Bazel; Bazel in Bazel."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.e2e.other_workspace import OtherWorkspace
from tests.lock.index_server import Authority, Index, running
from tests.lock.wheelhouse import wheel

USER, PASSWORD = "builder", "pa:ss-w0rd%41/+#"
FLOW = """\
from metaflow import FlowSpec, pypi, step


class Demo(FlowSpec):
    @pypi(packages={"alpha": "1.0"})
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    Demo()
"""
BUILD = """\
load("@mfbazel//rules:defs.bzl", "metaflow_flow")

filegroup(name = "base")

metaflow_flow(
    name = "demo",
    src = "demo.py",
    base = ":base",
    metaflow = "metaflow==99",
    python = "3.14",
)
"""
MODULE = """
locks = use_extension("@mfbazel//rules:extensions.bzl", "locks")
use_repo(locks, "mfbazel_locks")
"""
POLICY = """\
[[lock.index]]
name = "corp"
url = "{url}"
packages = ["corp-*"]
"""


@dataclass(frozen=True)
class Site:
    """A workspace, and what its user's indexes and the policy's answer."""

    workspace: OtherWorkspace
    public: Index
    private: Index

    def variables(self, **variables: str) -> OtherWorkspace:
        """Return the workspace of a user with other variables."""
        return replace(self.workspace, variables={**self.workspace.variables, **variables})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, place: OtherWorkspace) -> Iterator[Site]:
    """The public index has a higher version of what the private one has; the private one wants a password."""
    scratch = tmp_path_factory.mktemp("private")
    for name in ("metaflow", "packaging", "boto3", "requests"):
        wheel(scratch / "public", name, "99.0")
    wheel(scratch / "public", "alpha", "1.0", ("corp-lib",))
    wheel(scratch / "public", "corp_lib", "9.0")
    wheel(scratch / "private", "corp_lib", "1.0")
    authority = Authority(scratch / "authority")
    with (
        running(scratch / "public") as public,
        running(scratch / "private", tls=authority.server(), users={USER: PASSWORD}) as private,
    ):
        configured = {
            **{name: "" for name in os.environ if name.startswith(("PIP_", "UV_")) or name.endswith("_CA_BUNDLE")},
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": public.url(),
            "PIP_CERT": str(authority.file),
            "UV_NO_CONFIG": "1",
            "UV_CACHE_DIR": str(scratch / "uv"),
            "UV_INDEX_CORP_USERNAME": USER,
            "UV_INDEX_CORP_PASSWORD": PASSWORD,
            "CORP_CHANNEL": "simple",
            "no_proxy": "127.0.0.1",
        }
        made = replace(place, variables=configured)
        made.begin()
        module = made.directory / "MODULE.bazel"
        module.write_text(module.read_text(encoding="utf-8") + MODULE, encoding="utf-8")
        made.write("BUILD.bazel", BUILD)
        made.write("demo.py", FLOW)
        made.write("mfbazel.toml", POLICY.format(url=private.url(path="/${CORP_CHANNEL}/")))
        yield Site(made, public, private)


def packages(workspace: OtherWorkspace) -> dict[str, str]:
    document = json.loads((workspace.directory / "demo.lock" / "flow.json").read_text(encoding="utf-8"))
    return {entry["name"]: entry["version"] for entry in document["wheels"].values() if entry["version"] != "99.0"}


def test_what_the_policy_pins_is_locked_and_built_from_its_index_and_no_password_is_left(site: Site) -> None:
    site.workspace.built("run", "//:demo.lock")
    assert packages(site.workspace) == {"alpha": "1.0", "corp-lib": "1.0"}
    wrong = site.variables(UV_INDEX_CORP_PASSWORD="wrong-password").bazel("build", "@mfbazel_locks//demo:start")
    assert wrong.returncode != 0
    assert f"corp-lib 1.0: the package index {site.private.url()}corp-lib/ refuses the credentials" in wrong.stderr
    assert "wrong-password" not in wrong.stderr
    site.workspace.built("build", "@mfbazel_locks//demo:start")
    assert [asked for asked in site.private.asked if asked.path.endswith(".whl") and asked.method == "GET"]
    # Its metadata was looked at while it was not known that corp-lib is needed; it was not downloaded.
    whole = [asked for asked in site.public.asked if asked.method == "GET" and asked.status == 200]
    assert not [asked for asked in whole if "corp_lib-9" in asked.path]
    site.workspace.built("test", "//:demo.lock_test")
    for path in files(site.workspace.directory):
        assert site.private.place.encode() not in path.read_bytes() or path.name == "mfbazel.toml", path
    fetched = [path for path in (site.workspace.output_base / "external").glob("*whl_*") if path.is_dir()]
    assert fetched
    for path in (path for directory in (site.workspace.directory, *fetched) for path in files(directory)):
        assert PASSWORD.encode() not in path.read_bytes(), path


def files(directory: Path) -> list[Path]:
    """Return the files of the workspace, without Bazel's links."""
    names = [path for path in directory.iterdir() if not path.name.startswith("bazel-")]
    return [path for name in names for path in (name.rglob("*") if name.is_dir() else [name]) if path.is_file()]
