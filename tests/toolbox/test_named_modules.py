"""Checkouts of Bazel modules that the user names, ``MFBAZEL_MODULE_<name>``."""

from __future__ import annotations

import subprocess
from pathlib import Path

TOOLBOX = Path(__file__).parents[2] / "tools" / "toolbox"


def shell(tmp_path: Path, command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the toolbox's functions; the workspace is ``tmp_path``."""
    script = f'set -euo pipefail; workspace=$1; . "{TOOLBOX}/lib.sh"; . "{TOOLBOX}/enter.sh"; {command}'
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **variables}
    return subprocess.run(
        ["bash", "-c", script, "bash", str(tmp_path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def module(directory: Path, name: str, *dependencies: str, dev: tuple[str, ...] = ()) -> Path:
    """Write a checkout of a module."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = [f'module(\n    name = "{name}",\n    compatibility_level = 1,\n)']
    lines += [f'bazel_dep(name = "{entry}", version = "1")' for entry in dependencies]
    lines += [f'bazel_dep(name = "{entry}", version = "1", dev_dependency = True)' for entry in dev]
    (directory / "MODULE.bazel").write_text("\n".join(lines) + "\n")
    return directory


def reached(tmp_path: Path, *found: str) -> subprocess.CompletedProcess[str]:
    """Run reachable_modules over ``name directory`` lines."""
    module(tmp_path / "root" / "usr" / "share" / "bazel" / "embedded_tools", "bazel_tools")
    lines = "\\n".join(found)
    return shell(tmp_path, f"printf '{lines}\\n' | reachable_modules {tmp_path}/root")


def test_the_name_is_that_of_the_checkout(tmp_path: Path) -> None:
    checkout = module(tmp_path / "somewhere", "tar.bzl")
    assert shell(tmp_path, "named_modules", MFBAZEL_MODULE_tar_bzl=str(checkout)).stdout == f"tar.bzl {checkout}\n"


def test_a_checkout_of_another_module_is_refused(tmp_path: Path) -> None:
    checkout = module(tmp_path / "somewhere", "tar.bzl")
    result = shell(tmp_path, "named_modules", MFBAZEL_MODULE_rules_oci=str(checkout))
    assert result.returncode == 1
    assert "MFBAZEL_MODULE_rules_oci names" in result.stderr
    assert "set MFBAZEL_MODULE_tar_bzl instead" in result.stderr


def test_no_bazel_runs_after_a_refusal(tmp_path: Path) -> None:
    command = "run_installed_bazel echo build || exit 3"
    result = shell(tmp_path, command, MFBAZEL_MODULE_rules_oci=str(tmp_path / "none"))
    assert (result.returncode, result.stdout) == (3, "")
    assert "which has no MODULE.bazel" in result.stderr


def test_what_a_checkout_needs_and_nobody_has_is_named(tmp_path: Path) -> None:
    module(tmp_path, "workspace", "rules_oci")
    checkout = module(tmp_path / "rules_oci", "rules_oci", "tar.bzl", "workspace", dev=("stardoc",))
    result = reached(tmp_path, f"rules_oci {checkout}", "workspace .")
    assert result.stdout.splitlines()[0] == f"rules_oci {checkout}"
    assert "rules_oci needs the module tar.bzl" in result.stderr
    assert "MFBAZEL_MODULE_tar_bzl=<directory>" in result.stderr
    assert "stardoc" not in result.stderr


def test_modules_that_nothing_reaches_are_left_out(tmp_path: Path) -> None:
    module(tmp_path, "workspace", "rules_oci")
    oci = module(tmp_path / "rules_oci", "rules_oci")
    other = module(tmp_path / "other", "other")
    assert reached(tmp_path, f"rules_oci {oci}", f"other {other}").stdout == f"rules_oci {oci}\n"


def test_the_first_of_a_name_wins(tmp_path: Path) -> None:
    module(tmp_path, "workspace", "rules_oci")
    mine, theirs = module(tmp_path / "mine", "rules_oci"), module(tmp_path / "theirs", "rules_oci")
    assert reached(tmp_path, f"rules_oci {mine}", f"rules_oci {theirs}").stdout == f"rules_oci {mine}\n"


def test_a_checkout_of_rules_oci_brings_the_mended_bazel_lib_and_the_local_tools(tmp_path: Path) -> None:
    debian = module(tmp_path / "box" / "root/usr/share/bazel/tools/aspect_bazel_lib", "aspect_bazel_lib")
    (debian / "lib").mkdir()
    (debian / "lib" / "jq.bzl").write_text("_jq = None\n\njq = _jq\n")
    command = f"available_modules {tmp_path}/box 'rules_oci /checkout'"
    first, second = shell(tmp_path, command), shell(tmp_path, command)
    assert first.stdout == second.stdout
    named, mended = first.stdout.splitlines()[:2]
    assert named == "rules_oci /checkout"
    copy = Path(mended.removeprefix("aspect_bazel_lib "))
    assert (copy / "lib" / "jq.bzl").read_text() == 'load("@jq.bzl//jq:jq.bzl", _jq = "jq")\n\njq = _jq\n'
    assert 'bazel_dep(name = "oci_tools"' in (copy / "MODULE.bazel").read_text()
    assert [path.name for path in (tmp_path / "box" / "modules").iterdir()] == [copy.name]
    assert (debian / "lib" / "jq.bzl").read_text() == "_jq = None\n\njq = _jq\n"


def test_without_it_the_toolbox_is_as_debian_made_it(tmp_path: Path) -> None:
    assert "aspect_bazel_lib /usr/share/bazel" in shell(tmp_path, f"available_modules {tmp_path}/box ''").stdout
    assert not (tmp_path / "box").exists()


def test_another_workspace_gets_mfbazel_from_the_toolboxs_own(tmp_path: Path) -> None:
    workspace, other = (
        module(tmp_path / "mfbazel", "mfbazel", "rules_pkg"),
        module(tmp_path / "other", "other", "mfbazel"),
    )
    rules_pkg = module(tmp_path / "rules_pkg", "rules_pkg")
    module(tmp_path / "root" / "usr" / "share" / "bazel" / "embedded_tools", "bazel_tools")
    found = f"{{ echo rules_pkg {rules_pkg}; toolbox_modules ''; }} | reachable_modules {tmp_path}/root"
    enter = f"workspace={workspace}; cd {other}; mkdir -p flows; cd flows; {found}"
    assert shell(tmp_path, enter).stdout.splitlines() == [f"mfbazel {workspace}", f"rules_pkg {rules_pkg}"]
