"""Where Bazel is installed, ``bazelw`` runs that one."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.toolbox.host import Host, finish, wait_until


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A machine with Bazel."""
    host = Host(tmp_path)
    host.install_bazel()
    return host


def _checkout(path: Path, name: str) -> Path:
    path.mkdir()
    (path / "MODULE.bazel").write_text(f'module(name = "{name}")\n')
    return path


def test_its_exit_code_is_returned_and_the_time_is_printed(host: Host) -> None:
    result = host.run("test", "//...", BAZEL_EXIT="3")
    assert result.returncode == 3
    assert host.calls("bazel") == [["test", "//..."]]
    assert result.stderr == "mfbazel: test took 0 s\n" or result.stderr == "mfbazel: test took 1 s\n"
    assert not host.calls("mmdebstrap")
    assert not host.toolboxes.exists()


def test_bazelisk_comes_before_bazel(host: Host) -> None:
    host.stand_in(host.bin / "bazelisk", "echo I am bazelisk")
    assert host.run("info").stdout == "I am bazelisk\n"
    assert not host.calls("bazel")


def test_arguments_reach_it_unharmed(host: Host) -> None:
    arguments = ["run", "//a:b", "--", "two words", "", "*", "$HOME", "a'b\"c", "--x=a b"]
    assert host.run(*arguments).returncode == 0
    assert host.calls("bazel") == [arguments]


@pytest.mark.parametrize("command", ["info", "query", "version", "shutdown", "help"])
def test_what_takes_no_time_says_nothing(host: Host, command: str) -> None:
    assert host.run(command).stderr == ""


def test_startup_options_may_stand_before_the_command(host: Host) -> None:
    assert "mfbazel: build took" in host.run("--output_base", "/somewhere", "build", "//...").stderr


def test_what_bazel_starts_finds_bazel_again_and_does_not_count_the_time_twice(host: Host) -> None:
    nested = '[ "$1" = run ] && shift && "$MFBAZEL_BAZELW" build "$@" || echo "$1 by $MFBAZEL_BAZELW"'
    host.stand_in(host.bin / "bazel", nested)
    result = host.run("run", "//a:b")
    assert result.stdout == f"build by {host.workspace / 'bazelw'}\n"
    assert re.fullmatch(r"mfbazel: run took \d s\n", result.stderr)


def test_checkouts_are_overrides_after_the_command(host: Host) -> None:
    checkout = _checkout(host.path / "with space", "rules_oci")
    host.run("--batch", "build", "//...", "--", "-//x", MFBAZEL_MODULE_rules_oci=str(checkout))
    assert host.calls("bazel") == [
        ["--batch", "build", f"--override_module=rules_oci={checkout}", "//...", "--", "-//x"]
    ]


@pytest.mark.parametrize("arguments", [["shutdown"], ["help", "build"], ["version"], [], ["--version"]])
def test_commands_that_read_no_modules_get_no_overrides(host: Host, arguments: list[str]) -> None:
    checkout = _checkout(host.path / "checkout", "rules_oci")
    host.run(*arguments, MFBAZEL_MODULE_rules_oci=str(checkout))
    assert host.calls("bazel") == [arguments]


def test_a_directory_without_a_module_file_is_refused_before_bazel_runs(host: Host) -> None:
    result = host.run("build", "//...", MFBAZEL_MODULE_rules_oci=str(host.path / "home"))
    assert result.returncode == 1
    assert f"error: MFBAZEL_MODULE_rules_oci names {host.path}/home, which has no MODULE.bazel" in result.stderr
    assert not host.calls("bazel")


@pytest.mark.parametrize("toolbox", [False, True])
@pytest.mark.parametrize(
    ("number", "to_group"), [(signal.SIGINT, True), (signal.SIGTERM, True), (signal.SIGTERM, False)]
)
def test_a_signal_lets_bazel_end_with_its_own_code(host: Host, toolbox: bool, number: int, to_group: bool) -> None:
    if toolbox:
        host.variables["MFBAZEL_TOOLBOX"] = "1"
        host.stand_in(host.bin / "bwrap", _BUBBLEWRAP)
        assert host.run("info").returncode == 0
    process = host.start("build", "//...", BAZEL_DOES="wait", BAZEL_EXIT="8")
    wait_until((host.path / "bazel-started").exists)
    (os.killpg if to_group else os.kill)(process.pid, number)
    result = finish(process)
    assert "mfbazel: build took" in result.stderr
    # SIGTERM to all ends bubblewrap too, or Bazel in the instant in which bash hears of it: the signal is the code.
    assert result.returncode in ({8, 143} if to_group and number == signal.SIGTERM else {8})


# As the real one, which waits for what it runs, and neither catches nor passes on signals.
_BUBBLEWRAP = f"""
exec {os.path.realpath("/proc/self/exe")} -c '
import os, subprocess, sys
arguments = sys.argv[sys.argv.index("--") + 1:]
environment = {{**os.environ, "PATH": os.environ["HOST"] + "/inside:" + os.environ["PATH"]}}
raise SystemExit(subprocess.Popen(arguments, env=environment, restore_signals=False).wait())
' "$@"
"""
