"""What a flow cannot do while it is read, and what is said of it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from mfbazel.analyze.dynamic import process, read_dynamic
from mfbazel.analyze.errors import DynamicError
from mfbazel.analyze.options import ReadOptions
from mfbazel.analyze.raw import RawFlow
from mfbazel.analyze.source import Sources, parse

FLOW = """\
import os, sys, time
from metaflow import FlowSpec, step, pypi
{top}

class F(FlowSpec):
    @pypi(packages={packages})
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    {main}
"""
"""The code of ``top`` starts at line 3."""


def read(path: Path, top: str, packages: str = "{}", main: str = "F()", timeout: float = 30) -> RawFlow:
    file = path / "flows" / "flow.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(FLOW.format(top=textwrap.dedent(top), packages=packages, main=main), encoding="utf-8")
    sources, module = Sources([file.parent]), parse(file, file.name)
    sources.add(module)
    return read_dynamic(module, sources, ReadOptions(timeout=timeout), "a test asks")


def versions(flow: RawFlow) -> dict[str, str]:
    found = flow.steps[0].pypi or flow.steps[1].pypi
    assert found is not None
    return {name: item.version for name, item in found.packages.items()}


def refused(path: Path, top: str, packages: str = "{}", main: str = "F()", timeout: float = 30) -> str:
    with pytest.raises(DynamicError) as error:
        read(path, top, packages, main, timeout)
    return str(error.value)


@pytest.fixture
def server() -> Iterator[tuple[int, list[str]]]:
    """A server on the loopback interface; yields its port and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever, daemon=True)
        thread.start()
        yield served.server_port, asked
        served.shutdown()


# Network


def test_reaching_the_network_is_refused_with_the_line(tmp_path: Path, server: tuple[int, list[str]]) -> None:
    port, asked = server
    message = refused(tmp_path, f"import urllib.request\nurllib.request.urlopen('http://127.0.0.1:{port}/versions')")
    assert "flow.py:4: the flow tries to reach the network while it is loaded (127.0.0.1:" in message
    assert "move it into a step" in message
    assert asked == []


def test_a_library_of_metaflow_does_not_reach_the_network_either(tmp_path: Path) -> None:
    message = refused(tmp_path, "import requests\nrequests.get('http://versions.example.com/')")
    assert "flow.py:4: the flow tries to reach the network while it is loaded (versions.example.com" in message


def test_a_flow_that_goes_on_without_network_is_read_and_the_report_says_so(tmp_path: Path) -> None:
    top = """\
    import socket
    try:
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    except OSError:
        VERSION = "1.0"
    """
    flow = read(tmp_path, top, '{"numpy": VERSION}')
    assert versions(flow) == {"numpy": "1.0"}
    assert "it tried to reach the network (flow.py:5, 192.0.2.1:80), which was refused" in flow.reading.reason


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="namespaces are Linux's")
def test_code_that_slips_past_the_guard_finds_no_network(tmp_path: Path, server: tuple[int, list[str]]) -> None:
    """Calls of the C library raise no audit events: only the namespace is in the way."""
    if not _has_namespaces():
        pytest.skip("the kernel gives no namespaces here")
    port, asked = server
    top = f"""\
    import ctypes, struct
    libc = ctypes.CDLL(None, use_errno=True)
    made = libc.socket(2, 1, 0)
    address = struct.pack("=H", 2) + struct.pack("!H", {port}) + bytes([127, 0, 0, 1]) + bytes(8)
    VERSION = "reached" if libc.connect(made, address, 16) == 0 else f"errno {{ctypes.get_errno()}}"
    PACKAGES = {{"numpy": "1.0"}} if VERSION != "reached" else {{"numpy": "2.0"}}
    """
    assert versions(read(tmp_path, top, "PACKAGES")) == {"numpy": "1.0"}
    assert asked == []


def _has_namespaces() -> bool:
    code = "import ctypes; raise SystemExit(ctypes.CDLL(None).unshare(0x50000000) != 0)"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_namespaces_the_guard_alone_keeps_the_flow_from_the_network(
    tmp_path: Path, server: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "NAMESPACES", False)
    port, asked = server
    top = f"""\
    import urllib.request
    if os.getpid() > 3:  # not the first of a namespace
        urllib.request.urlopen("http://127.0.0.1:{port}/")
    """
    assert f"flow.py:5: the flow tries to reach the network while it is loaded (127.0.0.1:{port})" in refused(
        tmp_path, top
    )
    assert asked == []


# Programs and files


@pytest.mark.parametrize(
    "call",
    [
        "import subprocess; subprocess.check_output(['git', 'rev-parse', 'HEAD'])",
        "os.system('git rev-parse HEAD')",
        "os.fork()",
        "os.execv('/bin/true', ['true'])",
    ],
)
def test_starting_programs_is_refused_with_the_line(tmp_path: Path, call: str) -> None:
    assert "flow.py:3: the flow tries to start a program while it is loaded" in refused(tmp_path, call)


@pytest.mark.parametrize(
    "call",
    [
        "open(os.path.dirname(__file__) + '/made.txt', 'w')",
        "os.open('made.txt', os.O_CREAT | os.O_WRONLY)",
        "os.mkdir('made')",
        "os.remove(__file__)",
        "os.rename(__file__, 'moved.py')",
        "os.symlink(__file__, 'link.py')",
    ],
)
def test_changing_files_is_refused_with_the_line(tmp_path: Path, call: str) -> None:
    assert "flow.py:3: the flow tries to change a file while it is loaded" in refused(tmp_path, call)
    assert [item.name for item in (tmp_path / "flows").iterdir()] == ["flow.py"]


def test_temporary_files_may_be_written_and_are_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    top = """\
    import tempfile
    with tempfile.NamedTemporaryFile("w+", delete=False) as file:
        file.write("1.0")
    PACKAGES = {"numpy": open(file.name).read()}
    """
    assert versions(read(tmp_path, top, "PACKAGES"))["numpy"] == "1.0"
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("top", ["import helper", "import helper\nraise ValueError"])
def test_reading_leaves_nothing_beside_the_flow(tmp_path: Path, top: str) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "helper.py").touch()
    with contextlib.suppress(DynamicError):
        read(tmp_path, top)
    assert sorted(item.name for item in (tmp_path / "flows").iterdir()) == ["flow.py", "helper.py"]


def test_files_beside_the_flow_are_read_from_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "version.txt").write_text("1.2.3")
    assert versions(read(tmp_path, 'VERSION = open("version.txt").read()', '{"numpy": VERSION}')) == {"numpy": "1.2.3"}


# Environment


def test_nothing_of_the_environment_reaches_the_flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "METAFLOW_USER", "PYTHONSTARTUP", "MY_PASSWORD"):
        monkeypatch.setenv(name, "a-secret")
    top = """\
    assert "a-secret" not in str(dict(os.environ)), sorted(os.environ)
    ALLOWED = {"HOME", "TMPDIR", "METAFLOW_HOME", "METAFLOW_USER", "USER", "LOGNAME", "PATH", "LANG", "TZ", "LC_CTYPE",
               "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONHASHSEED", "PYTHONUTF8", "PYTHONDONTWRITEBYTECODE",
               "PYTHONNOUSERSITE", "PYTHONSAFEPATH"}
    unknown = {name for name in os.environ if name not in ALLOWED}
    assert not unknown, unknown
    """
    read(tmp_path, top)


def test_the_home_directory_is_an_empty_one(tmp_path: Path) -> None:
    read(tmp_path, "from pathlib import Path\nassert not list(Path.home().iterdir()), list(Path.home().iterdir())")


def test_the_standard_input_is_empty(tmp_path: Path) -> None:
    read(tmp_path, "assert sys.stdin.read() == ''")


# Limits


def test_an_endless_loop_is_stopped_after_the_time_limit(tmp_path: Path) -> None:
    before = time.monotonic()
    message = refused(tmp_path, "while True:\n    pass", timeout=2)
    assert time.monotonic() - before < 15
    assert "flow.py: loading the flow took longer than 2 seconds" in message
    assert "into steps" in message


def test_sleeping_threads_and_handlers_do_not_outlast_the_time_limit(tmp_path: Path) -> None:
    top = """\
    import signal, threading
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGXCPU):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=time.sleep, args=(600,)).start()
    while True:
        try:
            time.sleep(600)
        except BaseException:
            pass
    """
    assert "took longer than 2 seconds" in refused(tmp_path, top, timeout=2)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_grandchildren_are_killed_at_the_time_limit(tmp_path: Path) -> None:
    """They are started by the C library, past the guard, and leave the session."""
    if not _has_namespaces():
        pytest.skip("the kernel gives no namespaces here")
    mark = f"600.{os.getpid()}{time.monotonic_ns() % 1000000:06}"
    top = f"""\
    import ctypes
    libc = ctypes.CDLL(None)
    libc.system(b"setsid sleep {mark} >/dev/null 2>&1 &")
    time.sleep(600)
    """
    refused(tmp_path, top, timeout=4)
    # The kernel empties a process namespace in the background, just after its first process was killed.
    _until(lambda: not _running(mark))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks for a signal of Linux")
@pytest.mark.parametrize("namespaces", [True, False])
def test_reading_ends_when_the_reading_process_is_killed(tmp_path: Path, *, namespaces: bool) -> None:
    flow = tmp_path / "flow.py"
    flow.write_text("import time\nopen('/dev/null', 'w')\ntime.sleep(600)\n")
    code = (
        "from mfbazel.analyze import read_flow\nfrom mfbazel.analyze.options import ReadOptions\n"
        "from mfbazel.analyze.dynamic import process, read_dynamic\nfrom mfbazel.analyze.source import Sources, parse\n"
        f"import pathlib\nprocess.NAMESPACES = {namespaces}\npath = pathlib.Path({str(flow)!r})\n"
        "read_dynamic(parse(path, 'flow.py'), Sources([path.parent]), ReadOptions(timeout=100), '')\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    reader = subprocess.Popen([sys.executable, "-c", code], env=environment)
    try:
        _until(lambda: len(_running(f"{tmp_path}/mfbazel-read-")) >= (2 if namespaces else 1))
    finally:
        reader.kill()
        reader.wait()
    _until(lambda: not _running(f"{tmp_path}/mfbazel-read-"))


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def _running(mark: str) -> list[str]:
    found = []
    for item in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = item.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if mark in text and "-m pytest" not in text:
            found.append(text)
    return found


def test_too_much_memory_is_refused_with_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MEMORY", 1024**3)
    message = refused(tmp_path, "HELD = []\nwhile True:\n    HELD.append(bytearray(64 * 1024 * 1024))")
    assert "flow.py:5: loading the flow needs more than 1 GiB of memory" in message


def test_without_namespaces_the_time_limit_holds_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "NAMESPACES", False)
    assert "took longer than 2 seconds" in refused(tmp_path, "while True:\n    pass", timeout=2)


def test_much_noise_is_neither_kept_nor_in_the_way(tmp_path: Path) -> None:
    top = """\
    for _ in range(20000):
        print('{"name": "Other", ' + "noise" * 20)
        print("noise" * 20, file=sys.stderr)
    """
    flow = read(tmp_path, top, '{"numpy": "1.0"}', main="print(']}'); F()")
    assert versions(flow) == {"numpy": "1.0"}


def test_closed_outputs_are_not_in_the_way(tmp_path: Path) -> None:
    flow = read(tmp_path, "os.close(1)\nos.close(2)\nsys.stdout = sys.stderr = None", '{"numpy": "1.0"}')
    assert versions(flow) == {"numpy": "1.0"}


# How loading may end


def test_what_the_flow_raises_is_shown_with_its_line(tmp_path: Path) -> None:
    message = refused(tmp_path, "def load():\n    return {}['missing']\n\nload()")
    assert message.startswith("flow.py:4: the flow raised while it was loaded: KeyError: 'missing'")


def test_a_missing_environment_variable_is_explained(tmp_path: Path) -> None:
    message = refused(tmp_path, "TEAM = os.environ['TEAM']")
    assert "flow.py:3: " in message
    assert "KeyError: 'TEAM'" in message
    assert "the environment's variables are not there" in message


def test_the_line_is_that_of_the_first_party_module_that_raised(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "helper.py").write_text("import json\n\nVALUE = json.loads('{')\n")
    message = refused(tmp_path, "import helper")
    assert message.startswith("helper.py:3: the flow raised while it was loaded: ")
    assert "JSONDecodeError" in message


def test_ending_the_program_is_refused(tmp_path: Path) -> None:
    assert "flow.py:3: the flow ended the program (SystemExit: 3)" in refused(tmp_path, "sys.exit(3)")


def test_ending_the_process_is_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, "print('the last words', flush=True)\nos._exit(7)")
    assert "the flow ended the process (exit code 7)" in message
    assert "the last words" in message


def test_a_crash_of_python_is_told(tmp_path: Path) -> None:
    message = refused(tmp_path, "import ctypes\nctypes.string_at(0)")
    assert "crashed Python (signal 11)" in message


def test_a_file_that_starts_no_flow_is_told_what_to_write(tmp_path: Path) -> None:
    message = refused(tmp_path, "", main="pass")
    assert "the file starts no flow" in message
    assert 'if __name__ == "__main__":' in message


def test_metaflows_own_refusal_is_shown(tmp_path: Path) -> None:
    message = refused(tmp_path, "from metaflow import retry\n@retry\nclass G: pass")
    assert "Metaflow refuses the flow" in message
    assert "@retry" in message or "'retry'" in message


def test_metaflows_check_of_the_graph_is_shown(tmp_path: Path) -> None:
    top = """\
    class G(FlowSpec):
        @step
        def start(self):
            self.next(self.missing)

        @step
        def end(self):
            pass
    """
    message = refused(tmp_path, top, main="G()")
    assert "Metaflow refuses the flow" in message
    assert "missing" in message
    assert "flow.py:" in message


def test_an_unknown_attribute_of_a_decorator_is_shown(tmp_path: Path) -> None:
    message = refused(tmp_path, "", packages="{}, pakages={}")
    assert "pakages" in message
    assert "flow.py:6" in message
