"""Fronts as persistent workers of Bazel: actions that take a short time start no Python.

The protocol is Bazel's JSON one: a request per line on standard input, a response per line on standard output (Bazel,
"Creating Persistent Workers"). A front keeps nothing between requests.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn, TextIO

from mfbazel.errors import MfbazelError, printable, run_front

Main = Callable[[Sequence[str] | None], int | None]
_FLAG = "--persistent_worker"

_AGAIN_SECONDS = 0.2
"""How long the process of a request that was told to end is left alone before it is told again."""

_GRACE_SECONDS = 10.0
"""How long it has to clean up, before it is killed."""


def run_worker_front(main: Main, *, warm: Callable[[], None] | None = None) -> NoReturn:
    """Run the front ``main``: as a worker where Bazel starts one, else as :func:`mfbazel.errors.run_front` does.

    Args:
        main: the front.
        warm: given for a front whose requests take much memory: a process forked for each of them serves it, and this
            is called once before, to import what they need.
    """
    if _FLAG not in sys.argv[1:]:
        run_front(lambda: main(None))
    # Bazel ends workers so, in the midst of a request when a build is interrupted: output files are cleaned up.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if warm and hasattr(os, "fork"):
            warm()
            gc.freeze()  # what the forked processes share with this one stays shared
            serve(main, sys.stdin, sys.stdout, run=in_child)
        else:
            serve(main, sys.stdin, sys.stdout)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(0)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not disturb the cleaning up
    raise KeyboardInterrupt


def in_process(main: Main, arguments: Sequence[str]) -> tuple[int, str]:
    """Run the front in this process; return its exit code and what it printed."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = _exit_code(main, arguments)
    return code, output.getvalue()


def in_child(main: Main, arguments: Sequence[str]) -> tuple[int, str]:
    """Run the front in a process forked from this one, which must have no other thread.

    Every request so begins with the same state and with all of its memory before it, whatever was served before, and
    what kills its process does not kill the worker.

    Returns:
        the exit code, and what the process and those that it started printed.
    """
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        _be_child(main, arguments, sender)
    os.close(sender)
    try:
        with os.fdopen(receiver, "rb", buffering=0) as stream:
            output = _read(stream).decode(errors="replace")
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except KeyboardInterrupt:
        _end(child)
        raise
    if code >= 0:
        return code, output
    name = signal.Signals(-code).name
    return 1, f"{output}error: the process of this action was ended by {name}: is there enough memory? Build again.\n"


def _read(stream: io.FileIO) -> bytes:
    """Read a pipe to its end; a signal is noticed within a second, also one that comes just before a read begins."""
    pieces: list[bytes] = []
    while True:
        if not select.select([stream], [], [], 1)[0]:
            continue
        if not (piece := stream.read(1 << 16)):
            return b"".join(pieces)
        pieces.append(piece)


def _end(child: int) -> None:
    """Tell a process to end until it has done so.

    Once is not enough: Python notes a signal and acts on it between two of its instructions, so that one which comes
    just before a read from a pipe begins is acted on when the read ends, or when the next signal interrupts it.
    """
    deadline = time.monotonic() + _GRACE_SECONDS
    while time.monotonic() < deadline:
        os.kill(child, signal.SIGTERM)
        again = min(time.monotonic() + _AGAIN_SECONDS, deadline)
        while time.monotonic() < again:
            if os.waitpid(child, os.WNOHANG)[0]:
                return
            time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _be_child(main: Main, arguments: Sequence[str], sender: int) -> NoReturn:
    """Run the front with its output going to ``sender``, and end this process."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(sender, 1)
        os.dup2(sender, 2)
        os.close(sender)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        code = _exit_code(main, arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def serve(
    main: Main,
    requests: TextIO,
    responses: TextIO,
    *,
    run: Callable[[Main, Sequence[str]], tuple[int, str]] = in_process,
) -> None:
    """Answer requests until there are no more.

    Args:
        main: the front; gets the arguments of each request.
        requests: lines of JSON, ``{"arguments": […], "requestId": N}``.
        responses: gets lines of JSON, ``{"exitCode": N, "output": "…", "requestId": N}``.
        run: :func:`in_process` or :func:`in_child`.
    """
    for line in requests:
        request = json.loads(line)
        code, output = run(main, request.get("arguments", []))
        response = {"exitCode": code, "output": output, "requestId": request.get("requestId", 0)}
        responses.write(json.dumps(response) + "\n")
        responses.flush()


def _exit_code(main: Main, arguments: Sequence[str]) -> int:
    """Run the front; what would end a process ends the request."""
    try:
        return main(arguments) or 0
    except MfbazelError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:
        traceback.print_exc()
        return 1
