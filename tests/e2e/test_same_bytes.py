"""The examples' images are the same bytes on two machines.

What "two machines" means here: the first is the Bazel that built this test's data, on all cores, `-c fastbuild`, in the
time zone, locale, umask and user of whoever runs the tests. The second is a Bazel of its own on a copy of the sources
at another path, with an output base of its own and no disk cache: on one core and one job, `-c opt`, in a time zone on
the other side of the date line, another locale (of actions too), a umask that lets nobody else read, layers made by a
process each instead of by persistent workers, and (where the test runs as root in the toolbox) as a user without
rights, at home elsewhere, on a machine of another name. The two share the kernel, the toolbox (or installed Bazel) with
its interpreter and its base packages, and the wheels, which are fixed by their hashes.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mfbazel.wheel.fetch import CACHE_VARIABLE, cache_directory
from tests.e2e.layouts import Layout
from tests.e2e.workspace_copy import NOBODY, Conditions, WorkspaceCopy, shared_wheels, workspace_copy

RUNFILES = Path(__file__).absolute().parents[2]
HERE = Path(__file__).parent
FLOWS = ("//examples/churn:churn_flow", "//examples/forecast:forecast_flow")
LOCKS = ("examples/churn/churn_flow.lock", "examples/forecast/forecast_flow.lock", "tools/python/python.lock")
OPTIONS = (
    "--compilation_mode=opt",
    "--jobs=1",
    "--strategy=WheelLayer=sandboxed,local",
    *(f"{flow}.images" for flow in FLOWS),
)
CAN_CHANGE_USER = os.geteuid() == 0 and Path("/usr/share/mfbazel/base").is_dir()

CONDITIONS = Conditions(
    one_core=True,
    variables={"TZ": "Pacific/Apia", "LC_ALL": "C"},
    umask=0o077,
    host_name="elsewhere" if os.geteuid() == 0 else None,
    user=NOBODY if CAN_CHANGE_USER else None,
)


@pytest.fixture(scope="module")
def copy() -> Iterator[WorkspaceCopy]:
    """The second machine."""
    # Below a directory that every user can reach.
    scratch = Path(tempfile.mkdtemp(prefix="mfbazel-copy.", dir="/tmp" if CAN_CHANGE_USER else None))
    variables = {CACHE_VARIABLE: str(scratch / "wheels"), "USER": "somebody"}
    with workspace_copy(WorkspaceCopy(scratch, CONDITIONS, variables)) as made:
        shared_wheels(cache_directory(), _wheels(), scratch / "wheels")
        yield made


def _wheels() -> list[tuple[str, str]]:
    """Return hash and file name of every wheel that the images and mfbazel's tools need."""
    locks = [json.loads((RUNFILES / lock / "flow.json").read_text(encoding="utf-8")) for lock in LOCKS]
    return sorted({(sha256, wheel["file"]) for lock in locks for sha256, wheel in lock["wheels"].items()})


def _images(name: str) -> dict[str, Layout]:
    """Return the images that the first machine built, by the name of the layout directory."""
    paths = json.loads(HERE.joinpath(f"{name}.json").read_text(encoding="utf-8"))
    examples = [path for image, path in paths.items() if image.startswith(("churn_", "forecast_"))]
    return {Path(path).name: Layout(RUNFILES / path) for path in examples}


def _images_json(flow: str) -> dict[str, Any]:
    package, _, name = flow.removeprefix("//").partition(":")
    content: dict[str, Any] = json.loads((RUNFILES / package / f"{name}.images" / "images.json").read_bytes())
    return content


def _build(copy: WorkspaceCopy, assembler: str) -> tuple[dict[str, Any], dict[str, Layout]]:
    """Build all images on the second machine; return each ``images.json`` by flow, and the layouts by name."""
    options = (f"--//rules:assembler={assembler}", *OPTIONS)
    copy.built("build", *options)
    files = copy.files(*_as_set(options))
    documents = [json.loads(path.read_bytes()) for path in files if path.name == "images.json"]
    layouts = {path.name: Layout(path) for path in files if path.is_dir()}
    return {document["label"]: document for document in documents}, layouts


def _as_set(options: tuple[str, ...]) -> tuple[str, ...]:
    """Return what `cquery` takes instead of several targets."""
    targets = [option for option in options if option.startswith("//")]
    return (*(option for option in options if option.startswith("--")), f"set({' '.join(targets)})")


def test_the_second_machine_differs_in_what_it_is_said_to_differ_in(copy: WorkspaceCopy) -> None:
    server = Path("/proc") / copy.built("info", "server_pid").strip()
    if not server.is_dir():
        pytest.skip("no /proc: the conditions of a process can be read on Linux only")
    status = dict(line.split(":\t", 1) for line in (server / "status").read_text().splitlines())
    assert status["Umask"] == "0077"
    assert status["Cpus_allowed_list"].isdigit()
    variables = (server / "environ").read_bytes().split(b"\0")
    assert b"TZ=Pacific/Apia" in variables and b"LC_ALL=C" in variables
    if CAN_CHANGE_USER:
        assert status["Uid"].split() == [str(NOBODY)] * 4
        assert (server / "ns" / "uts").readlink() != Path("/proc/self/ns/uts").readlink()


def test_both_machines_build_the_same_images_by_rules_oci(copy: WorkspaceCopy) -> None:
    documents, layouts = _build(copy, "rules_oci")
    # Every step's digest is in there.
    assert documents == {flow: _images_json(flow) for flow in FLOWS}
    _assert_same(layouts, _images("default_images"))


def test_both_machines_build_the_same_images_by_the_native_assembler(copy: WorkspaceCopy) -> None:
    documents, layouts = _build(copy, "native")
    assert [len(document["steps"]) for document in documents.values()] == [6, 4]
    native, default = _images("native_images"), _images("default_images")
    assert native.keys() <= layouts.keys() == default.keys()
    _assert_same({name: layouts[name] for name in native}, native)
    # Layers do not depend on the assembler.
    for name, layout in default.items():
        assert _layers(layouts[name]) == _layers(layout)


def _assert_same(there: dict[str, Layout], here: dict[str, Layout]) -> None:
    assert there.keys() == here.keys()
    for name, layout in here.items():
        assert _layers(there[name]) == _layers(layout), name
        assert there[name].top == layout.top, name
        for digest in {descriptor["digest"] for descriptor in layout.descriptors()}:
            assert there[name].blob(digest).stat().st_size == layout.blob(digest).stat().st_size


def _layers(layout: Layout) -> list[list[dict[str, Any]]]:
    return [manifest["layers"] for manifest in layout.manifests()]
