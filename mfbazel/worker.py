"""Bazel's persistent workers: one process that does the work of many actions (JSON protocol).

Most of what a small action takes is the start of Python. A front that is called with ``--persistent_worker`` reads work
requests from standard input instead, one JSON object per line, and answers each with another (Bazel's documentation,
"Creating Persistent Workers").
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TextIO

from mfbazel.errors import MfbazelError, run_front

Main = Callable[[Sequence[str] | None], int]


def run_front_or_worker(main: Main) -> None:
    """Run ``main`` once as :func:`mfbazel.errors.run_front` does, or for every request where Bazel wants a worker."""
    if sys.argv[1:] == ["--persistent_worker"]:
        serve(main, sys.stdin, sys.stdout)
    else:
        run_front(lambda: main(None))


def serve(main: Main, requests: TextIO, answers: TextIO) -> None:
    """Answer requests until there are no more.

    Args:
        main: does one action; takes its arguments, returns its exit code, may raise.
        requests: a work request per line; its ``arguments`` are those of the action.
        answers: gets a work response per line. What the action prints is in it, and nowhere else.
    """
    for line in requests:
        request = json.loads(line)
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = _status(main, request.get("arguments", []))
        answer = {"exitCode": status, "output": said.getvalue(), "requestId": request.get("requestId", 0)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _status(main: Main, arguments: Sequence[str]) -> int:
    try:
        return main(arguments)
    except MfbazelError as error:
        print(f"error: {error}", file=sys.stderr)
    except SystemExit as end:  # argparse, of wrong usage
        return end.code if isinstance(end.code, int) else 1
    except Exception:
        traceback.print_exc()
    return 1
