"""Setting up the toolbox: complete or absent, whatever happens meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.toolbox.host import Host, finish, wait_until


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A machine without Bazel."""
    return Host(tmp_path)


def _during_set_up(host: Host, **variables: str) -> subprocess.Popen[str]:
    process = host.start("build", "//...", MMDEBSTRAP_DOES="sleep", **variables)
    wait_until((host.path / "mmdebstrap-started").exists)
    return process


def test_the_first_command_sets_up_and_runs_and_the_second_only_runs(host: Host) -> None:
    first = host.run("build", "//...", MMDEBSTRAP_DOES="sleep", MMDEBSTRAP_SECONDS="1.1")
    assert first.returncode == 0
    assert "mfbazel: setting up the toolbox once: Debian forky with Bazel 7.7.1, in " in first.stderr
    assert "mfbazel:   downloading packages with apt..." in first.stderr
    assert "a line of hundreds" not in first.stderr
    assert "mfbazel: the toolbox is ready after " in first.stderr
    assert ", of which setting up the toolbox " in first.stderr.splitlines()[-1]
    second = host.run("build", "//...", BAZEL_EXIT="4")
    assert second.returncode == 4
    assert [line for line in second.stderr.splitlines() if "build took" not in line] == []
    assert "toolbox" not in second.stderr
    assert len(host.calls("mmdebstrap")) == 1
    assert [call[1:] for call in host.calls("bazel")] == [["build", "//..."]] * 2


def test_the_root_is_made_from_the_lists_and_verified_by_the_keyring(host: Host) -> None:
    host.run("info")
    (arguments,) = host.calls("mmdebstrap")
    assert "--include=bazel-bootstrap,crane" in arguments
    assert "--mode=root" in arguments
    assert '--aptopt=Acquire::http::Proxy "http://proxy.example:3128";' in arguments
    assert any(argument.startswith("--keyring=/usr/share/keyrings/debian-archive-keyring") for argument in arguments)
    assert arguments[-3] == "forky"
    assert arguments[-1] == "deb http://mirror.example/debian forky main"
    # What the set-up mounts must not outlive it, nor be seen by what removes its directory.
    assert host.calls("unshare")[0][:2] == ["--mount", "mmdebstrap"]
    (toolbox,) = host.toolboxes.glob("????????????????")
    assert (toolbox / "root/etc/bazel/bazelrc").read_text() == ""
    assert (toolbox / "versions.txt").read_text() == "bazel-bootstrap 7.7.1+ds-8 amd64\ncrane 0.20.7 amd64\n"
    assert (toolbox / "base.sha256").read_text().endswith("  amd64/python.deb\n")


def test_an_ordinary_user_owns_every_file_and_leaves_no_scratch_directory(host: Host) -> None:
    scratch = host.path / "scratch"
    scratch.mkdir()
    command = f"toolbox_scratch={scratch}; require_user_namespaces() {{ :; }}; toolbox_ensure; toolbox_dir"
    result = host.shell(command, USER_ID="1000", TMPDIR="/private")
    assert result.returncode == 0, result.stderr
    (arguments,) = host.calls("mmdebstrap")
    assert {"--mode=unshare", "--format=tar"} <= set(arguments)
    root = Path(result.stdout.strip()) / "root"
    assert (root / "usr/share/mfbazel/base/amd64/python.deb").exists()
    assert not (root / "dev/null-device").exists()
    assert list(scratch.iterdir()) == []


def test_another_package_list_makes_another_toolbox(host: Host) -> None:
    host.run("info")
    (host.workspace / "tools/toolbox/packages.txt").write_text("bazel-bootstrap\npodman\n")
    host.run("info")
    assert len(host.calls("mmdebstrap")) == len(host.left_behind()) == 2


def test_a_failure_shows_the_reason_and_leaves_nothing(host: Host) -> None:
    result = host.run("build", "//...", MMDEBSTRAP_DOES="fail")
    assert result.returncode == 1
    assert "E: the mirror is on fire" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: the toolbox could not be made; the reason is above.")
    assert host.left_behind() == set()
    assert not host.calls("bazel")


def test_a_failure_to_unpack_leaves_nothing(host: Host) -> None:
    scratch = host.path / "scratch"
    scratch.mkdir()
    (host.bin / "tar").unlink()
    real = "/usr/bin/tar" if Path("/usr/bin/tar").exists() else "/bin/tar"
    host.stand_in(
        host.bin / "tar",
        f'[ "$1" = -x ] || exec {real} "$@"; head -c 100 >/dev/null; echo "tar: No space left on device" >&2; exit 2',
    )
    command = f"toolbox_scratch={scratch}; require_user_namespaces() {{ :; }}; toolbox_ensure"
    result = host.shell(command, USER_ID="1000")
    assert result.returncode == 1
    assert "No space left on device" in result.stderr
    assert "could not be made" in result.stderr
    assert host.left_behind() == set()
    assert list(scratch.iterdir()) == []


def test_another_bazel_on_the_mirror_is_refused_and_nothing_is_left(host: Host) -> None:
    result = host.run("build", "//...", MIRROR_BAZEL="8.1.0")
    assert result.returncode == 1
    assert "error: the mirror has Bazel 8.1.0, and this workspace needs 7.7.1 (.bazelversion)." in result.stderr
    assert host.left_behind() == set()
    assert not host.calls("bazel")


def test_ctrl_c_leaves_nothing(host: Host) -> None:
    process = _during_set_up(host)
    os.killpg(process.pid, signal.SIGINT)
    result = finish(process)
    assert result.returncode == 130
    assert result.stderr.splitlines()[-1] == "mfbazel: interrupted; nothing was left behind"
    assert host.left_behind() == set()


def test_what_a_kill_leaves_does_not_count_and_goes_with_the_next_set_up(host: Host) -> None:
    process = _during_set_up(host)
    os.killpg(process.pid, signal.SIGKILL)
    finish(process)
    (unfinished,) = host.left_behind()
    assert unfinished.startswith("making.")
    assert "no toolbox for this workspace yet" in host.run("toolbox", "--status").stdout
    assert host.run("build", "//...").returncode == 0
    assert len(host.calls("mmdebstrap")) == 2
    (complete,) = host.left_behind()
    assert not complete.startswith("making.")


def test_what_a_killed_bazelw_started_is_waited_for_before_starting_over(host: Host) -> None:
    process = _during_set_up(host, MMDEBSTRAP_SECONDS="2")
    process.kill()
    result = host.run("build", "//...")
    finish(process)
    assert "mfbazel: another process is setting up the toolbox in " in result.stderr
    assert result.returncode == 0
    assert len(host.calls("mmdebstrap")) == 2
    assert len(host.left_behind()) == 1


def test_nothing_is_removed_where_something_is_mounted(host: Host) -> None:
    """Root's set-up mounts /proc, /sys and /dev/shm: removing those would remove the machine's."""
    shared = host.path / "a tree" / "root" / "dev" / "shm"
    shared.mkdir(parents=True)
    (shared / "somebody's").touch()
    (shared.parents[2] / "complete").touch()
    mounts = host.path / "mounts"
    escaped = str(shared).replace(" ", "\\040")
    mounts.write_text(f"45 27 0:27 / {escaped} rw,relatime - tmpfs tmpfs rw\n")
    command = f"toolbox_mounts='{mounts}'; remove_trees '{shared.parents[2]}'"
    result = host.shell(command)
    assert result.returncode == 1
    assert "error: something is mounted below" in result.stderr
    assert (shared / "somebody's").exists()
    mounts.write_text("45 27 0:27 / /dev/shm rw,relatime - tmpfs tmpfs rw\n")
    assert host.shell(command).returncode == 0
    assert not shared.parents[2].exists()


def test_two_at_once_make_it_once(host: Host) -> None:
    first = _during_set_up(host, MMDEBSTRAP_SECONDS="2")
    second = host.start("test", "//...", MMDEBSTRAP_DOES="sleep", MMDEBSTRAP_SECONDS="1")
    results = [finish(first), finish(second)]
    assert [result.returncode for result in results] == [0, 0], results[1].stderr
    assert "waiting for it" in results[1].stderr
    assert len(host.calls("mmdebstrap")) == 1
    assert sorted(call[1] for call in host.calls("bazel")) == ["build", "test"]


def test_the_shell_waits_while_the_toolbox_is_removed(host: Host) -> None:
    """Who waited for the lock of a removed toolbox must not set up beside another."""
    host.toolboxes.mkdir(parents=True)
    lock = host.toolboxes / "lock"
    holder = subprocess.Popen(
        ["flock", str(lock), "sh", "-c", f"echo held; sleep 0.7; rm {lock}"], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert host.run("build", "//...").returncode == 0
    holder.communicate()
    assert lock.exists()


# What the host lacks


@pytest.mark.parametrize("variables", [{"MACHINE": "aarch64"}, {"SYSTEM": "Darwin"}, {"without": "apt-get"}])
def test_a_host_that_is_not_like_debian_gets_one_clear_message(host: Host, variables: dict[str, str]) -> None:
    if "without" in variables:
        (host.bin / variables["without"]).unlink()
    result = host.run("build", "//...", **variables)
    assert result.returncode == 1
    assert result.stderr.startswith(
        "error: the toolbox, which brings Bazel 7.7.1 where neither bazelisk nor bazel is on PATH"
    )
    assert "Install bazelisk (https://github.com/bazelbuild/bazelisk) and run this command again." in result.stderr
    assert result.stderr.count("error:") == 1
    assert not host.toolboxes.exists()


@pytest.mark.parametrize("made", [False, True])
def test_an_ordinary_user_is_told_what_to_type_for_missing_packages(host: Host, made: bool) -> None:
    if made:
        host.run("info")
    (host.bin / "bwrap").unlink()
    result = host.run("build", "//...", USER_ID="1000")
    assert result.returncode == 1
    assert "\n  sudo apt-get install --yes --no-install-recommends bubblewrap" in result.stderr
    assert not host.calls("apt-get")
    assert len(host.calls("mmdebstrap")) == made


def test_root_installs_missing_packages_and_says_so(host: Host) -> None:
    for name in ("bwrap", "mmdebstrap"):
        (host.bin / name).rename(host.path / name)
    host.stand_in(host.bin / "apt-get", f'record apt-get "$@"\nmv {host.path}/bwrap {host.path}/mmdebstrap {host.bin}/')
    result = host.run("build", "//...")
    assert result.returncode == 0
    assert "mfbazel: installing with apt: bubblewrap mmdebstrap" in result.stderr
    assert host.calls("apt-get")[0][:5] == ["install", "--yes", "--no-install-recommends", "bubblewrap", "mmdebstrap"]


def test_packages_that_apt_cannot_install_are_named(host: Host) -> None:
    (host.bin / "mmdebstrap").unlink()
    result = host.run("build", "//...", APT_EXIT="100")
    assert result.returncode == 1
    assert "error: apt could not install mmdebstrap" in result.stderr
    assert [call[0] for call in host.calls("apt-get")] == ["install", "update"]


def test_without_user_namespaces_the_setting_is_named(host: Host) -> None:
    result = host.shell("require_user_namespaces", UNSHARE_EXIT="1")
    assert result.returncode == 1
    assert "sudo sysctl -w kernel.unprivileged_userns_clone=1" in result.stderr


def test_without_subordinate_ids_the_command_is_named(host: Host) -> None:
    host.stand_in(host.bin / "grep", "exit 1")
    result = host.shell("require_user_namespaces")
    assert result.returncode == 1
    assert "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 somebody" in result.stderr


# The mirror


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("debian.sources", "Types: deb\nURIs: http://one.example/debian\nSuites: bookworm\n"),
        (
            "debian.sources",
            "# URIs: http://old.example/debian\nTypes: deb\nURIs:   http://one.example/debian http://two.example/debian\n",
        ),
        ("other.list", "deb https://tools.example/apt tools main\ndeb http://one.example/debian bookworm main\n"),
        (
            "other.list",
            "#deb http://old.example/debian x main\ndeb [arch=amd64 signed-by=/k] http://one.example/debian x main\n",
        ),
        ("other.list", "deb-src http://src.example/debian x main\ndeb http://one.example/debian x main\n"),
    ],
)
def test_the_mirror_is_the_one_of_apt(host: Host, name: str, text: str) -> None:
    sources = host.path / "apt" / "sources.list.d" / name
    sources.parent.mkdir(parents=True)
    sources.write_text(text)
    assert host.shell(f"apt_mirror {host.path}/apt", MFBAZEL_TOOLBOX_MIRROR="").stdout == "http://one.example/debian\n"


def test_a_named_mirror_comes_before_the_one_of_apt(host: Host) -> None:
    assert host.shell("apt_mirror").stdout == "http://mirror.example/debian\n"


def test_without_a_mirror_the_variable_is_named(host: Host) -> None:
    (host.path / "apt").mkdir()
    command = f'eval "own_$(declare -f apt_mirror)"; apt_mirror() {{ own_apt_mirror {host.path}/apt; }}; toolbox_ensure'
    result = host.shell(command, MFBAZEL_TOOLBOX_MIRROR="")
    assert result.returncode == 1
    assert "error: no Debian mirror" in result.stderr
    assert "MFBAZEL_TOOLBOX_MIRROR" in result.stderr
    assert host.left_behind() == set()
