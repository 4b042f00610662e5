"""A machine for tests of ``bazelw``: a copy of its scripts, and stand-ins on PATH for what needs root or a network."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

WORKSPACE = Path(__file__).parents[2]
BAZEL_VERSION = "7.7.1"

# What the scripts call besides the stand-ins.
_REAL_TOOLS = [
    "awk",
    "basename",
    "bash",
    "cat",
    "chmod",
    "cksum",
    "cmp",
    "cp",
    "cut",
    "date",
    "dirname",
    "du",
    "env",
    "find",
    "flock",
    "grep",
    "head",
    "ls",
    "mkdir",
    "mktemp",
    "mv",
    "paste",
    "readlink",
    "rm",
    "rmdir",
    "sed",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "tail",
    "tar",
    "tee",
    "touch",
    "tr",
    "true",
    "wc",
]

_BAZEL = r"""
record bazel "$@"
case "${BAZEL_DOES:-}" in
  wait)
    trap 'kill $!; exit "${BAZEL_EXIT:-8}"' INT TERM
    sleep 30 >/dev/null 2>&1 &
    touch "$HOST/bazel-started"
    wait $!
    ;;
esac
exit "${BAZEL_EXIT:-0}"
"""

# As the real one: the directory to fill stands before the mirror, and a signal ends it.
_MMDEBSTRAP = r"""
record mmdebstrap "$@"
touch "$HOST/mmdebstrap-started"
echo "I: downloading packages with apt..." >&2
echo "a line of hundreds" >&2
case "${MMDEBSTRAP_DOES:-}" in
  fail) echo "E: the mirror is on fire" >&2; exit 1 ;;
  sleep) sleep "${MMDEBSTRAP_SECONDS:-30}" ;;
esac
target=${@: -2:1}
case $target in -) root=$TMPDIR/mmdebstrap.root ;; *) root=$target ;; esac
mkdir -p "$root/etc/bazel" "$root/usr/share/mfbazel/base/amd64" "$root/usr/share/bazel/embedded_tools" "$root/dev"
echo "startup --debugging" >"$root/etc/bazel/bazelrc"
echo "a package" >"$root/usr/share/mfbazel/base/amd64/python.deb"
: >"$root/usr/share/bazel/embedded_tools/MODULE.bazel"
: >"$root/dev/null-device"
for module in tools/skylib rules/python; do
  mkdir -p "$root/usr/share/bazel/$module"
  : >"$root/usr/share/bazel/$module/MODULE.bazel"
done
if [ "$target" = - ]; then
  tar -c -C "$root" .
  rm -r "$root"
fi
"""

_STAND_INS = {
    "mmdebstrap": _MMDEBSTRAP,
    # The toolbox's own programs come first inside it.
    "bwrap": """
record bwrap "$@"
while [ "$1" != -- ]; do
  if [ "$1" = --setenv ] && [ "$2" != PATH ]; then export "$2=$3"; fi
  shift
done
shift
PATH=$HOST/inside:$PATH
"$@"
""",
    "apt-get": 'record apt-get "$@"\nexit "${APT_EXIT:-0}"',
    "apt-config": """echo 'Acquire::http::Proxy "http://proxy.example:3128";'""",
    "dpkg-query": """echo "bazel-bootstrap ${MIRROR_BAZEL:-7.7.1}+ds-8 amd64"; echo "crane 0.20.7 amd64" """,
    "id": 'case "$1" in -un) echo somebody ;; *) echo "${USER_ID:-0}" ;; esac',
    "newuidmap": "exit 0",
    "uname": 'case "$1" in -m) echo "${MACHINE:-x86_64}" ;; *) echo "${SYSTEM:-Linux}" ;; esac',
    "unshare": 'record unshare "$@"\n[ "$1" != --mount ] || exec "${@:2}"\nexit "${UNSHARE_EXIT:-0}"',
}


class Host:
    """A machine below a directory of the test.

    Attributes:
        path: the directory of all.
        workspace: the copy of the workspace.
        toolboxes: where toolboxes are kept.
        variables: environment of everything run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.workspace = path / "workspace"
        self.bin = path / "bin"
        self.toolboxes = path / "home" / ".cache" / "mfbazel" / "toolbox"
        self.variables = {
            "PATH": str(self.bin),
            "HOME": str(path / "home"),
            "HOST": str(path),
            "MFBAZEL_TOOLBOX_MIRROR": "http://mirror.example/debian",
        }
        for directory in (self.bin, path / "home", path / "log", path / "inside"):
            directory.mkdir(parents=True)
        for tool in _REAL_TOOLS:
            real = shutil.which(tool)
            if real is None:
                raise FileNotFoundError(f"the tests need {tool} on PATH")
            (self.bin / tool).symlink_to(real)
        for name, script in _STAND_INS.items():
            self.stand_in(self.bin / name, script)
        self.stand_in(path / "inside" / "bazel", _BAZEL)
        self._copy_workspace()

    def _copy_workspace(self) -> None:
        toolbox = self.workspace / "tools" / "toolbox"
        toolbox.mkdir(parents=True)
        for script in (WORKSPACE / "tools" / "toolbox").glob("*.sh"):
            shutil.copy(script, toolbox)
        shutil.copy(WORKSPACE / "bazelw", self.workspace)
        (toolbox / "packages.txt").write_text("# Bazel\nbazel-bootstrap\ncrane\n")
        (toolbox / "base-packages.txt").write_text("python3.14\n")
        (self.workspace / ".bazelversion").write_text(f"{BAZEL_VERSION}\n")
        (self.workspace / "MODULE.bazel").write_text('bazel_dep(name = "bazel_skylib", version = "1.7.1")\n')
        (toolbox / "modules" / "zlib").mkdir(parents=True)
        (toolbox / "modules" / "zlib" / "MODULE.bazel").write_text('module(name = "zlib")\n')

    def stand_in(self, path: Path, script: str) -> None:
        """Write a program in bash; ``record NAME ARGUMENT…`` writes down that it was called."""
        # In one write: two at once may call it.
        record = (
            "record() { local log=$HOST/log/$1 call=; shift; "
            'if [ $# -gt 0 ]; then printf -v call "%s\\x1f" "$@"; fi; printf "%s\\x1e" "$call" >>"$log"; }'
        )
        # The link to a real program is replaced: writing through it would change the machine's.
        path.unlink(missing_ok=True)
        path.write_text(f"#!{shutil.which('bash')}\n{record}\n{script}\n")
        path.chmod(0o755)

    def install_bazel(self, name: str = "bazel") -> None:
        """Put a Bazel on PATH."""
        self.stand_in(self.bin / name, _BAZEL)

    def calls(self, program: str) -> list[list[str]]:
        """What a stand-in was called with, call by call."""
        log = self.path / "log" / program
        calls = log.read_text().split("\x1e")[:-1] if log.exists() else []
        return [call.split("\x1f")[:-1] for call in calls]

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start ``bazelw`` in a process group of its own, as a terminal does."""
        return subprocess.Popen(
            [str(self.workspace / "bazelw"), *arguments],
            cwd=self.workspace,
            env={**self.variables, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run ``bazelw`` to its end."""
        return finish(self.start(*arguments, **variables))

    def shell(self, command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command with the functions of the scripts."""
        scripts = "".join(f'. "$workspace/tools/toolbox/{name}.sh"; ' for name in ("lib", "setup", "enter"))
        return subprocess.run(
            ["bash", "-c", f"set -euo pipefail; workspace=$1; {scripts}{command}", "bash", str(self.workspace)],
            cwd=self.workspace,
            env={**self.variables, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    def left_behind(self) -> set[str]:
        """Names of what lies where toolboxes are kept, but for the lock."""
        return {entry.name for entry in self.toolboxes.glob("*")} - {"lock"}


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for a process; after 25 seconds its whole group is killed, and the test fails."""
    try:
        stdout, stderr = process.communicate(timeout=25)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait up to 20 seconds.

    Raises:
        TimeoutError: the condition did not come true.
    """
    end = time.monotonic() + 20
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the condition did not come true within 20 seconds")
        time.sleep(0.02)
