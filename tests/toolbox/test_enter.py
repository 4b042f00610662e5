"""Inside the toolbox, and the commands about it."""

from __future__ import annotations

import signal
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from tests.toolbox.host import Host, wait_until


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A machine with Bazel on PATH that was asked for the toolbox."""
    host = Host(tmp_path)
    host.stand_in(host.bin / "bazel", "echo the installed bazel; exit 99")
    host.variables["MFBAZEL_TOOLBOX"] = "1"
    return host


def _bazelrc(host: Host) -> list[str]:
    (option,) = {call[0] for call in host.calls("bazel")}
    return Path(option.removeprefix("--bazelrc=")).read_text().splitlines()


def _binds(host: Host) -> list[str]:
    arguments = host.calls("bwrap")[-1]
    return [path for option, path in pairwise(arguments) if option == "--bind"]


def _toolbox(host: Host) -> Path:
    (toolbox,) = host.toolboxes.glob("????????????????")
    return toolbox


def test_the_toolbox_is_used_although_bazel_is_installed(host: Host) -> None:
    result = host.run("build", "//...")
    assert (result.returncode, result.stdout) == (0, "")
    assert host.calls("bazel")[0][1:] == ["build", "//..."]


def test_arguments_reach_bazel_unharmed(host: Host) -> None:
    arguments = ["run", "//a:b", "--", "two words", "", "*", "$HOME", "a'b\"c"]
    host.run(*arguments)
    assert host.calls("bazel")[0][1:] == arguments


def test_bazel_sees_an_empty_registry_and_only_modules_that_are_reached(host: Host) -> None:
    host.run("info")
    rc = _bazelrc(host)
    overrides = [line for line in rc if "--override_module" in line]
    assert overrides == ['common "--override_module=bazel_skylib=/usr/share/bazel/tools/skylib"']
    assert f"common --registry=file://{_toolbox(host)}/registry" in rc
    assert (_toolbox(host) / "registry" / "bazel_registry.json").read_text() == "{}\n"


def test_a_checkout_takes_the_place_of_the_toolbox_s_module(host: Host) -> None:
    checkout = host.path / "my skylib"
    checkout.mkdir()
    (checkout / "MODULE.bazel").write_text(
        'module(name = "bazel_skylib")\nbazel_dep(name = "rules_python", version = "1")\n'
    )
    host.run("info", MFBAZEL_MODULE_bazel_skylib=str(checkout))
    assert [line for line in _bazelrc(host) if "--override_module" in line] == [
        f'common "--override_module=bazel_skylib={checkout}"',
        'common "--override_module=rules_python=/usr/share/bazel/rules/python"',
    ]


def test_a_checkout_without_a_module_file_is_refused(host: Host) -> None:
    result = host.run("build", "//...", MFBAZEL_MODULE_bazel_skylib=str(host.path / "home"))
    assert result.returncode == 1
    assert "error: MFBAZEL_MODULE_bazel_skylib names" in result.stderr
    assert not host.calls("bazel")


def test_inside_the_toolbox_nothing_is_entered_again(host: Host) -> None:
    host.run("info")
    host.stand_in(host.bin / "bazel", 'record bazel-inside "$@"')
    host.run("build", "//...", MFBAZEL_IN_TOOLBOX="1")
    assert host.calls("bazel-inside")[0][1:] == ["build", "//..."]
    assert len(host.calls("bwrap")) == 1


# What is visible. The test lies below a directory that is bound anyway, so the functions are asked directly.


def _shown(host: Host, *places: str, visible: str = "/tmp") -> tuple[str, Path]:
    root = host.path / "root"
    root.mkdir(exist_ok=True)
    shows = "; ".join(f"show '{place}' || echo refused '{place}'" for place in places)
    command = f"root={root}; arguments=(); visible=({visible}); {shows}; printf '%s\\n' \"${{arguments[@]}}\""
    result = host.shell(command)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip(), root


def test_a_place_that_is_not_bound_is_bound_and_its_mount_point_is_made(host: Host) -> None:
    place = host.path / "var" / "lib" / "with space"
    place.mkdir(parents=True)
    shown, root = _shown(host, str(place), str(place / "."), visible="/nowhere")
    assert shown == f"--bind\n{place}\n{place}"
    assert (root / str(place).lstrip("/")).is_dir()


def test_a_file_gets_a_file_as_its_mount_point(host: Host) -> None:
    place = host.path / "pip.conf"
    place.write_text("[global]\n")
    shown, root = _shown(host, str(place), visible="/nowhere")
    assert shown == f"--bind\n{place}\n{place}"
    assert (root / str(place).lstrip("/")).read_text() == ""


def test_what_is_visible_already_or_does_not_exist_is_not_bound(host: Host) -> None:
    shown, _ = _shown(host, str(host.path), "/no/such/place", visible=str(host.path))
    assert shown == ""


def test_files_of_the_toolbox_are_not_hidden(host: Host) -> None:
    place = host.path / "usr" / "bin"
    place.mkdir(parents=True)
    ours = host.path / "root" / str(place).lstrip("/")
    ours.mkdir(parents=True)
    (ours / "bazel").write_text("bazel")
    shown, _ = _shown(host, str(place), visible="/nowhere")
    assert shown.splitlines()[0] == f"refused {place}"


def test_home_and_the_cache_are_visible_wherever_they_lie(host: Host) -> None:
    """A link is followed, as programs do."""
    real = host.path / "real"
    real.mkdir()
    (host.path / "link").symlink_to(real)
    command = 'root=$HOST/root; mkdir "$root"; arguments=(); visible=(/nowhere); show_places; '
    command += 'printf "%s\\n" "${arguments[@]}"'
    result = host.shell(command, TMPDIR=str(host.path / "link"), XDG_CACHE_HOME=str(real))
    binds = result.stdout.splitlines()
    assert {str(host.workspace), str(host.path / "home"), str(real), str(host.path / "link")} <= set(binds)


def test_the_shell_runs_one_command_with_the_toolbox_s_settings(host: Host) -> None:
    command = ["toolbox", "--shell", "sh", "-c", 'echo "$1 $MFBAZEL_IN_TOOLBOX $LC_ALL"; exit 5', "sh", "a b"]
    result = host.run(*command)
    assert (result.returncode, result.stdout) == (5, "a b 1 C.UTF-8\n")
    arguments = host.calls("bwrap")[0]
    assert arguments[arguments.index("--ro-bind") + 1 :][:2] == [str(_toolbox(host) / "root"), "/"]
    assert arguments[arguments.index("--chdir") + 1] == str(host.workspace)
    assert "/sys" in _binds(host)


# Commands about the toolbox


def test_status_before_and_after(host: Host) -> None:
    before = host.run("toolbox", "--status")
    assert before.returncode == 0
    assert before.stdout.startswith("no toolbox for this workspace yet; the next ./bazelw command makes it in ")
    assert not host.toolboxes.exists()
    host.run("info")
    after = host.run("toolbox", "--status").stdout
    assert f"directory  {_toolbox(host)}" in after
    assert "versions   2 packages" in after
    assert "bazel-bootstrap 7.7.1+ds-8" in after


def test_remove_leaves_nothing(host: Host) -> None:
    host.run("info")
    sealed = _toolbox(host) / "root" / "sealed"
    sealed.mkdir()
    (sealed / "file").touch()
    sealed.chmod(0o555)
    result = host.run("toolbox", "--remove")
    assert (result.returncode, result.stdout) == (0, f"removed the toolboxes in {host.toolboxes}\n")
    assert not host.toolboxes.parent.exists()
    assert host.run("toolbox", "--remove").stdout == f"there is no toolbox in {host.toolboxes}\n"


def test_remove_touches_nothing_that_set_up_did_not_make(host: Host) -> None:
    mine = host.toolboxes / "sixteen_letters_"
    mine.mkdir(parents=True)
    (mine / "root").mkdir()
    host.run("info")
    host.run("toolbox", "--remove")
    assert [entry.name for entry in host.toolboxes.iterdir()] == [mine.name]


def test_remove_stops_the_servers_that_run_from_it(host: Host) -> None:
    """No process of a test without privileges has a toolbox as its root, so its own root is taken for a toolbox's."""
    box = host.path / "box"
    box.mkdir()
    (box / "root").symlink_to("/")
    servers = [
        subprocess.Popen(["bash", "-c", f'exec -a "{name}" sleep 30'], env=host.variables)
        for name in ("bazel(workspace)", "something else")
    ]
    try:
        wait_until(lambda: all(b"sleep" not in _command_line(server.pid).split(b"\0")[0] for server in servers))
        processes = " ".join(f"/proc/{server.pid}" for server in servers)
        assert host.shell(f"stop_servers {box} {processes}").returncode == 0
        assert servers[0].wait(timeout=20) == -signal.SIGTERM
        assert servers[1].poll() is None
    finally:
        for server in servers:
            server.kill()
            server.wait()


def _command_line(process: int) -> bytes:
    return Path(f"/proc/{process}/cmdline").read_bytes() if Path(f"/proc/{process}").exists() else b"sleep"


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_names_every_option_and_variable(host: Host, arguments: list[str]) -> None:
    result = host.run("toolbox", *arguments)
    assert result.returncode == 0
    for word in (
        "--status",
        "--shell",
        "--remove",
        "MFBAZEL_TOOLBOX_DIR",
        "MFBAZEL_TOOLBOX_MIRROR",
        "MFBAZEL_MODULE_<name>",
    ):
        assert word in result.stdout


def test_an_unknown_option_is_wrong_usage(host: Host) -> None:
    result = host.run("toolbox", "--statsu")
    assert result.returncode == 2
    assert result.stderr.startswith("error: unknown option --statsu\nusage: ./bazelw toolbox")
