"""The command lines of the engines, and what of this machine a container gets."""

from __future__ import annotations

import json
import os
import shlex
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from mfbazel.container import ContainerError, Image, Mount, Plan, Wanted, gpu, plan, prepare
from mfbazel.container.bazel import build_images
from mfbazel.container.engines import Start, choose
from mfbazel.container.engines.bubblewrap import Bubblewrap
from mfbazel.container.engines.docker import Docker
from mfbazel.container.engines.podman import Podman
from mfbazel.container.gpu import Gpu
from mfbazel.container.layout import read_image
from mfbazel.container.model import tidy
from mfbazel.container.sources import readable
from mfbazel.container.variables import configuration, forwarded
from tests.container.layouts import Members, write_layout

GPU = Gpu([Path("/dev/nvidia0"), Path("/dev/nvidiactl")], {"libcuda.so.1": Path("/usr/lib64/libcuda.so.1")})


def started(engine: str, *, found: Gpu | None = None, reads_input: bool = False, overlay: bool = False) -> Start:
    image = Image(engine, "/cache/root", "sha256:abc", {"PATH": "/opt/venv/bin", "LANG": "C"}, "0:0", overlay)
    mounts = (Mount(Path("/home/me/work"), writable=True), Mount(Path("/code, mine")))
    return Start(
        Plan(image, Path("/home/me/work"), mounts),
        ("python", "-u", "flow.py"),
        {"HOME": "/home/me", "LANG": "de", "TOKEN": "secret"},
        "mfbazel-1",
        found,
        reads_input,
    )


def options(command: object, name: str) -> list[str]:
    """Return the values that an option has in a command."""
    words = list(command) if isinstance(command, (list, tuple)) else []
    return [value for option, value in pairwise(words) if option == name]


@pytest.mark.parametrize("engine", [Podman("/bin/podman"), Docker("/bin/docker")])
def test_podman_and_docker_get_mounts_the_network_and_the_names_of_variables(engine: Podman | Docker) -> None:
    process = engine.process(started(engine.name))
    command = list(process.command)
    assert command[1] == "run" and {"--rm", "--network=host", "--ipc=host", "--pull=never"} <= set(command)
    assert options(command, "--mount") == [
        "type=tmpfs,destination=/home/me,tmpfs-mode=1777",
        "type=bind,source=/home/me/work,destination=/home/me/work",
        'type=bind,"source=/code, mine","destination=/code, mine",readonly',
    ]
    assert options(command, "--env") == ["HOME", "LANG", "TOKEN"]
    assert process.environ["TOKEN"] == "secret" and not any("secret" in word for word in command)
    assert options(command, "--workdir") == ["/home/me/work"]
    assert options(command, "--user") == ["0:0"]
    # Whatever the image's entrypoint is.
    assert command[-5:] == ["--entrypoint", "python", "/cache/root", "-u", "flow.py"]
    assert "--interactive" not in command and "--tty" not in command
    assert list(process.remove)[1:3] == ["rm", "--force"] and process.remove[-1] == "mfbazel-1"


@pytest.mark.parametrize("home", ["/home/me/work", "/home/me/work/deeper", "/"])
def test_a_home_directory_that_a_mount_shows_stays(home: str) -> None:
    start = replace(started("podman"), environ={"HOME": home})
    for engine in (Podman("podman"), Bubblewrap("bwrap")):
        assert "tmpfs," not in shlex.join(engine.process(start).command).replace("--tmpfs /run --tmpfs /var/tmp", "")
        assert f"--tmpfs {home} " not in shlex.join(engine.process(start).command)


def test_a_command_that_reads_its_input_gets_it() -> None:
    for engine in (Podman("podman"), Docker("docker"), Bubblewrap("bwrap")):
        process = engine.process(started(engine.name, reads_input=True))
        assert process.reads_input
        assert engine.name == "bubblewrap" or "--interactive" in process.command


def test_bubblewrap_binds_in_order_and_ends_with_its_parent() -> None:
    process = Bubblewrap("bwrap").process(started("bubblewrap"))
    command = list(process.command)
    assert command[:3] == ["bwrap", "--die-with-parent", "--unshare-pid"]
    said = shlex.join(command)
    assert "--bind /cache/root / " in said
    assert "--tmpfs /home/me --bind /home/me/work /home/me/work --ro-bind '/code, mine' '/code, mine' " in said
    assert said.endswith("--remount-ro / --chdir /home/me/work -- python -u flow.py")
    assert process.environ == {"PATH": "/opt/venv/bin", "LANG": "de", "HOME": "/home/me", "TOKEN": "secret"}
    assert not process.remove


def test_bubblewrap_lays_a_writable_file_system_over_the_root_where_it_can() -> None:
    command = Bubblewrap("bwrap").process(started("bubblewrap", overlay=True)).command
    assert "--overlay-src /cache/root --tmp-overlay /" in shlex.join(command)
    assert "--remount-ro" not in command


def test_podman_gets_gpus_by_the_device_interface_or_else_one_by_one() -> None:
    by_interface = Podman("podman").process(started("podman", found=Gpu(GPU.devices, GPU.libraries, cdi=True)))
    assert options(by_interface.command, "--device") == ["nvidia.com/gpu=all"]
    one_by_one = Podman("podman").process(started("podman", found=GPU)).command
    assert options(one_by_one, "--device") == ["/dev/nvidia0", "/dev/nvidiactl"]
    assert (
        "type=bind,source=/usr/lib64/libcuda.so.1,destination=/usr/local/nvidia/lib64/libcuda.so.1,readonly"
        in options(one_by_one, "--mount")
    )
    assert "LD_LIBRARY_PATH=/usr/local/nvidia/lib64" in options(one_by_one, "--env")


def test_docker_gets_gpus_where_nvidias_toolkit_is_installed() -> None:
    assert "--gpus" not in Docker("docker").process(started("docker", found=GPU)).command
    command = Docker("docker").process(started("docker", found=Gpu(GPU.devices, toolkit=True))).command
    assert options(command, "--gpus") == ["all"]


def test_bubblewrap_binds_gpus_and_the_drivers_libraries() -> None:
    process = Bubblewrap("bwrap").process(started("bubblewrap", found=GPU))
    said = shlex.join(process.command)
    assert "--dev-bind /dev/nvidia0 /dev/nvidia0 --dev-bind /dev/nvidiactl /dev/nvidiactl" in said
    assert "--ro-bind /usr/lib64/libcuda.so.1 /usr/local/nvidia/lib64/libcuda.so.1" in said
    assert process.environ["LD_LIBRARY_PATH"] == "/usr/local/nvidia/lib64"


def test_gpus_are_found_with_their_libraries_and_how_engines_get_them(tmp_path: Path) -> None:
    for name in ("dev/nvidiactl", "usr/lib64/libcuda.so.535", "usr/lib64/libnvidia-ml.so.535", "usr/lib64/libc.so.6"):
        tmp_path.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
        tmp_path.joinpath(name).touch()
    tmp_path.joinpath("usr/lib64/libcuda.so.1").symlink_to("libcuda.so.535")
    assert gpu.find(tmp_path, "") is None  # a driver without a GPU
    tmp_path.joinpath("dev/nvidia0").touch()
    found = gpu.find(tmp_path, "")
    assert found is not None and not found.cdi and not found.toolkit
    assert [device.name for device in found.devices] == ["nvidia0", "nvidiactl"]
    assert sorted(found.libraries) == ["libcuda.so.1", "libcuda.so.535", "libnvidia-ml.so.535"]
    assert found.libraries["libcuda.so.1"] == tmp_path / "usr/lib64/libcuda.so.535"
    specification = tmp_path / "etc" / "cdi" / "nvidia.yaml"
    specification.parent.mkdir(parents=True)
    specification.touch()
    again = gpu.find(tmp_path, "")
    assert again is not None and again.cdi


def test_a_plan_survives_its_way_through_a_command_line() -> None:
    image = Image("podman", "1234", "registry.example.com/ml/flow@sha256:1", {"A": "b\nc"}, "1:1", True)
    mounts = (Mount(Path("/a b"), writable=True), Mount(Path("/usr/lib/x"), target=Path("/y")))
    given = Plan(image, Path("/work"), mounts, {"PYTHONPATH": "/a:/b"})
    assert "\n" not in given.to_json()
    assert Plan.from_json(given.to_json()) == given


def test_mounts_come_parents_first_and_once_and_what_is_writable_stays_so() -> None:
    mounts = [
        Mount(Path("/w/a/out"), writable=True),
        Mount(Path("/w")),
        Mount(Path("/w/a")),
        Mount(Path("/w/a/out/deep")),
        Mount(Path("/elsewhere"), target=Path("/w/b")),
    ]
    assert tidy(mounts) == (
        Mount(Path("/w")),
        Mount(Path("/elsewhere"), target=Path("/w/b")),
        Mount(Path("/w/a/out"), writable=True),
    )


def test_variables_of_the_user_are_forwarded_and_those_of_this_machine_are_not() -> None:
    own = {
        "AWS_ACCESS_KEY_ID": "x",
        "METAFLOW_DEFAULT_DATASTORE": "s3",
        "HOME": "/home/me",
        "MODEL": "a",
        "TMPDIR": "/t",
    }
    machine = {"PATH": "/bin", "LD_LIBRARY_PATH": "/l", "CONDA_PREFIX": "/c", "PYTHONHOME": "/p", "VIRTUAL_ENV": "/v"}
    assert forwarded({**own, **machine}) == own


def test_the_settings_of_metaflow_and_its_datastores_are_found(tmp_path: Path) -> None:
    for name in (".metaflowconfig/config.json", ".aws/credentials", ".ssh/id", "own.pem"):
        tmp_path.joinpath(name).parent.mkdir(exist_ok=True)
        tmp_path.joinpath(name).touch()
    environ = {"HOME": str(tmp_path), "AWS_CA_BUNDLE": str(tmp_path / "own.pem"), "SSL_CERT_FILE": "/nowhere/x.pem"}
    assert configuration(environ) == [tmp_path / ".metaflowconfig", tmp_path / ".aws", tmp_path / "own.pem"]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory outside Bazel's output base, which is needed whole where anything in it is."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        yield Path(directory)


def test_links_are_followed_to_every_directory_that_must_be_there(place: Path) -> None:
    for name in ("source/pkg/a.py", "checkout/b.py", "base/execroot/_main/out/c.py", "base/external/r/d.py"):
        place.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
        place.joinpath(name).touch()
    runfiles = place / "base" / "execroot" / "_main" / "bin.runfiles"
    runfiles.mkdir()
    place.joinpath("base/execroot/_main/pkg").symlink_to(place / "source" / "pkg")
    place.joinpath("base/external/mod").symlink_to(place / "checkout")
    runfiles.joinpath("a.py").symlink_to(place / "base/execroot/_main/pkg/a.py")
    runfiles.joinpath("mod").symlink_to("../../../external/mod")
    runfiles.joinpath("gone.py").symlink_to("nowhere.py")
    found = readable([runfiles, place / "missing"], [place / "source"])
    assert [mount.source for mount in found] == [place / "base", place / "checkout", place / "source"]
    assert not any(mount.writable or mount.target for mount in found)


def test_a_loop_of_links_ends(place: Path) -> None:
    place.joinpath("loop").symlink_to("loop")
    place.joinpath("self").symlink_to(".")
    assert [mount.source for mount in readable([place])] == [place]


@pytest.fixture
def image() -> Image:
    return Image("podman", "1234", "sha256:1")


def planned(image: Image, workdir: Path, home: Path, **more: object) -> Plan:
    environ = {"XDG_CACHE_HOME": str(home / "cache"), "HOME": str(home)}
    arguments: dict[str, object] = {"code": [], "import_roots": [Path("/a"), Path("/b"), Path("/a")], **more}
    return plan(image, workdir=workdir, environ=environ, **arguments)  # type: ignore[arg-type]


def test_the_plan_of_a_task_says_what_can_be_written_and_where_code_is(
    image: Image, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("work", "code", "data", "temporary"):
        (place / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place / "temporary"))
    found = planned(
        image,
        place / "work",
        place,
        code=[place / "code"],
        volumes=[str(place / "data")],
        writable=[place / "missing"],
    )
    writable = {mount.source.name: mount.writable for mount in found.mounts}
    byte_code = Path(found.variables["PYTHONPYCACHEPREFIX"]).name
    assert writable == {"work": True, "temporary": True, "data": True, "code": False, byte_code: True}
    assert found.variables["PYTHONPATH"] == "/a:/b"
    assert found.variables["MFBAZEL_CONTAINER_IMAGE"] == "sha256:1"


def test_a_working_directory_that_would_hide_the_image_is_refused(image: Image, tmp_path: Path) -> None:
    with pytest.raises(ContainerError, match="/opt would hide what the image has there"):
        planned(image, Path("/opt"), tmp_path)


def test_a_volume_that_does_not_exist_is_named(image: Image, tmp_path: Path) -> None:
    with pytest.raises(ContainerError, match="host_volumes: there is no /nowhere/data"):
        planned(image, tmp_path, tmp_path, volumes=["/nowhere/data"])


def program(directory: Path, name: str, script: str) -> Path:
    """Write a program that stands for an engine; it logs how it is called."""
    path = directory / name
    directory.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\necho "$0 $*" >>"{directory}/log"\n{script}\n')
    path.chmod(0o755)
    return path


def test_auto_takes_the_first_engine_that_works(tmp_path: Path) -> None:
    bin_ = tmp_path / "bin"
    program(bin_, "bwrap", "exit 0")
    assert choose("auto", str(bin_)).name == "bubblewrap"
    program(bin_, "docker", "echo no daemon >&2; exit 1")
    assert choose("auto", str(bin_)).name == "bubblewrap"
    program(bin_, "docker", "exit 0")
    assert choose("auto", str(bin_)).name == "docker"
    program(bin_, "podman", "exit 0")
    assert choose("auto", str(bin_)).name == "podman"


def test_auto_passes_over_an_engine_that_answers_and_starts_nothing(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", [Members().file("a")])
    bin_ = tmp_path / "bin"
    program(bin_, "podman", 'case "$1" in run) echo no subordinate ids >&2; exit 125;; esac')
    program(bin_, "bwrap", "exit 0")
    environ = {"PATH": f"{bin_}:/bin:/usr/bin", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    said: list[str] = []
    images = prepare({"a": Wanted("auto", str(layout))}, dict, environ, said.append)
    assert images["a"].engine == "bubblewrap"
    assert "podman answers but starts no container" in said[0] and "no subordinate ids" in said[0]
    assert prepare({"a": Wanted("podman", str(layout))}, dict, environ, said.append)["a"].engine == "podman"


def test_where_nothing_works_the_reason_of_each_engine_is_said(tmp_path: Path) -> None:
    bin_ = tmp_path / "bin"
    program(bin_, "docker", "echo no daemon >&2; exit 1")
    with pytest.raises(
        ContainerError, match=r"(?s)podman: podman is not on PATH\n  docker: .*no daemon\n  bubblewrap: "
    ):
        choose("auto", str(bin_))
    with pytest.raises(ContainerError, match="engine='lxc' is none of auto, podman, docker, bubblewrap"):
        choose("lxc", str(bin_))


def test_podman_is_given_a_layout_that_it_lacks_and_no_other(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "lay:out", [Members().file("a")])
    bin_ = tmp_path / "bin"
    engine = Podman(str(program(bin_, "podman", 'case "$1" in image) exit 1;; pull) echo 4711;; esac')))
    said: list[str] = []
    image = engine.take_layout(read_image(layout), tmp_path, said.append)
    assert (image.handle, image.user) == ("4711", "0:0")
    assert "pull --quiet oci:" in (bin_ / "log").read_text() and "lay:out" not in (bin_ / "log").read_text()
    program(bin_, "podman", "exit 0")
    known = read_image(layout).config_digest.removeprefix("sha256:")
    assert engine.take_layout(read_image(layout), tmp_path, said.append).handle == known
    assert len(said) == 1


def test_docker_loads_a_layout_and_runs_as_the_user(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", [Members().file("a")])
    bin_ = tmp_path / "bin"
    script = f'case "$1" in image) exit 1;; load) cat >"{tmp_path}/loaded";; info) echo "[\\"name=seccomp\\"]";; esac'
    image = Docker(str(program(bin_, "docker", script))).take_layout(read_image(layout), tmp_path, lambda _: None)
    assert image.user == f"{os.getuid()}:{os.getgid()}"
    with tarfile.open(tmp_path / "loaded") as archive:
        content = archive.extractfile("manifest.json")
        assert content is not None
        assert json.loads(content.read())[0]["RepoTags"] == [image.handle]
    script = 'case "$1" in info) echo "[\\"name=rootless\\"]";; esac'
    image = Docker(str(program(bin_, "docker", script))).take_layout(read_image(layout), tmp_path, lambda _: None)
    assert image.user == "0:0"


def test_what_docker_refuses_is_said_with_its_reason(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", [Members().file("a")])
    script = 'case "$1" in image) exit 1;; load) echo no space left >&2; exit 1;; esac'
    engine = Docker(str(program(tmp_path / "bin", "docker", script)))
    with pytest.raises(ContainerError, match=r"giving docker the image .* failed: .* no space left"):
        engine.take_layout(read_image(layout), tmp_path, lambda _: None)


def test_the_archive_for_docker_is_a_whole_layout(tmp_path: Path) -> None:
    image = read_image(
        write_layout(tmp_path / "layout", [Members().file("a"), Members().file("b")], compression="zstd")
    )
    received = tmp_path / "received.tar"
    script = f'case "$1" in image) exit 1;; load) cat > {received};; esac'
    Docker(str(program(tmp_path / "bin", "docker", script))).take_layout(image, tmp_path, lambda _: None)
    with tarfile.open(received) as archive:
        archive.extractall(tmp_path / "copy", filter="data")
    copied = read_image(tmp_path / "copy")
    assert (copied.digest, len(copied.layers)) == (image.digest, 2)


def test_bubblewrap_refuses_what_is_in_a_registry(tmp_path: Path) -> None:
    bin_ = tmp_path / "bin"
    program(bin_, "bwrap", "exit 0")
    with pytest.raises(
        ContainerError, match=r"python:3.14 is in a registry, and bubblewrap starts only images that are"
    ):
        prepare({"a": Wanted("bubblewrap", "python:3.14")}, dict, {"PATH": str(bin_)}, lambda _: None)


def test_references_are_pulled_once_where_they_are_missing(tmp_path: Path) -> None:
    bin_ = tmp_path / "bin"
    marker = tmp_path / "pulled"
    script = (
        f'case "$1 $2" in "image inspect") test -e "{marker}" && echo 4711;; "pull --quiet") touch "{marker}";; esac'
    )
    program(bin_, "podman", script)
    wanted = {step: Wanted("auto", None) for step in ("a", "b")}
    own = dict.fromkeys(("a", "b", "c"), "registry.example.com/ml/flow@sha256:12")
    images = prepare(wanted, lambda: own, {"PATH": f"{bin_}:/bin:/usr/bin"}, lambda _: None)
    assert {step: image.handle for step, image in images.items()} == {"a": "4711", "b": "4711"}
    assert (bin_ / "log").read_text().count("podman pull --quiet registry.example.com/ml/flow@sha256:12") == 1


def test_an_image_of_ones_own_wins_and_nothing_is_built_then(tmp_path: Path) -> None:
    bin_ = tmp_path / "bin"
    program(bin_, "bwrap", "exit 0")
    layout = write_layout(tmp_path / "layout", [Members().file("a")])

    def build() -> dict[str, Path]:
        raise AssertionError("built")

    environ = {"PATH": str(bin_), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for named in (str(layout), f"oci:{layout}"):
        images = prepare({"a": Wanted("auto", named)}, build, environ, lambda _: None)
        assert Path(images["a"].handle, "a").is_file()
    with pytest.raises(ContainerError, match="/nowhere is not the directory of an OCI layout"):
        prepare({"a": Wanted("auto", "oci:/nowhere")}, build, environ, lambda _: None)


def test_bazel_is_asked_for_the_images_in_the_server_that_is_running(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "out" / "flow.train", [Members().file("a")])
    digest = read_image(layout).digest
    record = tmp_path / "out" / "images.json"
    record.write_text(json.dumps({"steps": {"train": {"digest": digest}, "end": {"digest": digest}}}))
    files = [{"uri": path.as_uri()} for path in (record, layout / "index.json")]
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"id": {}, "namedSetOfFiles": {"files": files}}) + "\n")
    bin_ = tmp_path / "bin"
    copy = f'case "$word" in --build_event_json_file=*) cp "{event}" "${{word#*=}}";; esac'
    script = f'for word; do {copy}; done; env >"{bin_}/env"'
    environ = {
        "MFBAZEL_BAZEL": f"{program(bin_, 'my bazel', script)}".replace(" ", "\\ "),
        "PATH": "/bin:/usr/bin",
        "PYTHONPATH": "/base/execroot/_main/bazel-out/x.runfiles:/mine",
        "RUNFILES_DIR": "/x",
    }
    started_in = Path("/base/execroot/_main/bazel-out/k8/bin/flow.runfiles/_main")
    built = build_images("//flows:flow", tmp_path, environ, started_in)
    assert built.steps == {"train": layout, "end": layout}
    log = (bin_ / "log").read_text()
    assert "--output_base=/base build " in log and log.rstrip().endswith("//flows:flow.images")
    seen = (bin_ / "env").read_text()
    assert "PYTHONPATH=/mine\n" in seen and "RUNFILES_DIR" not in seen


def test_a_build_that_fails_names_the_command(tmp_path: Path) -> None:
    environ = {"MFBAZEL_BAZEL": str(program(tmp_path / "bin", "bazel", "exit 3")), "PATH": "/bin:/usr/bin"}
    with pytest.raises(ContainerError, match=r"bazel build //flows:flow.images` ended with 3"):
        build_images("//flows:flow", tmp_path, environ, None)


def test_the_workspaces_own_bazelw_is_called_before_what_is_on_path(tmp_path: Path) -> None:
    bin_ = tmp_path / "bin"
    program(bin_, "bazel", "exit 4")
    with pytest.raises(ContainerError, match="ended with 4"):
        build_images("//flows:flow", tmp_path, {"PATH": f"{bin_}:/bin:/usr/bin"}, None)
    program(tmp_path, "bazelw", "exit 5")
    with pytest.raises(ContainerError, match="ended with 5"):
        build_images("//flows:flow", tmp_path, {"PATH": f"{bin_}:/bin:/usr/bin"}, None)
    tmp_path.joinpath("bazelw").unlink()
    with pytest.raises(ContainerError, match="name yours in MFBAZEL_BAZEL"):
        build_images("//flows:flow", tmp_path, {"PATH": "/nowhere"}, None)
