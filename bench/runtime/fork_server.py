"""Runs the tasks of a flow in forks of one process that has Metaflow loaded: a task takes milliseconds, not a second.

The launching process starts what it takes for Python: the script that :func:`write_client` writes, which hands its
arguments, its variables and its output to the server and waits for the exit code. A task that was to go to Batch runs
at once, in the fork: no job is queued, and the launching process sees the same as with one.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

_CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    message = json.dumps([sys.argv, dict(os.environ), os.getcwd()]).encode()
    socket.send_fds(server, [len(message).to_bytes(4, "big")], [1, 2])
    server.sendall(message)
    code = server.recv(1)
sys.exit(code[0] if code else 1)
"""
_OF_TASK = ("run-id", "task-id", "input-paths", "split-index", "retry-count", "max-user-code-retries", "namespace")
_BEFORE_OPTIONS = 3
"""Words between the step's name and the options of ``batch step``: what and where the code package is."""


def write_client(path: Path, python: str, address: Path) -> None:
    """Write the program that stands for Python in the launching process."""
    path.write_text(_CLIENT.format(python=python, address=str(address)))
    path.chmod(0o755)


def serve(address: Path) -> None:
    """Serve until the process is ended; tasks run in forks."""
    import metaflow  # noqa: F401 - what the forks share

    multiprocessing.set_start_method("fork")  # for what reads from S3
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        listening.listen(64)
        while True:
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _answer(connection)
            connection.close()


def local(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of the task itself for those of ``batch step``; others as they are."""
    words = list(arguments)
    if "batch" not in words or words[words.index("batch") + 1] != "step":
        return words
    at = words.index("batch")
    kept, rest = [*words[:at], "step", words[at + 2]], words[at + 3 + _BEFORE_OPTIONS :]
    for option, value in itertools.pairwise(rest):
        if option.removeprefix("--") in _OF_TASK and option.startswith("--"):
            kept += [option, value]
    return kept


def run_flow() -> None:
    """Run the flow that ``sys.argv`` names, in the module ``__main__``: Metaflow has put classes there."""
    file = Path(sys.argv[0])
    main = vars(sys.modules["__main__"])
    main["__file__"] = str(file)
    exec(compile(file.read_text(), file, "exec"), main)


def _answer(connection: socket.socket) -> None:
    """Run the task that ``connection`` asks for, and end this process."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        size, descriptors, _, _ = socket.recv_fds(connection, 4, 2)
        message = b""
        while len(message) < int.from_bytes(size, "big"):
            message += connection.recv(1 << 20)
        arguments, environ, directory = json.loads(message)
        for number, descriptor in enumerate(descriptors, 1):
            os.dup2(descriptor, number)
        os.environ.clear()
        os.environ.update(environ)
        os.chdir(directory)
        # What a task starts itself, to read from S3, is a fork too.
        sys.executable, *words = arguments
        sys.argv = local([word for word in words if word != "-u"])
        run_flow()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(bytes([code]))
        os._exit(code)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
