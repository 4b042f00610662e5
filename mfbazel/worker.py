"""Fronts as persistent workers of Bazel, for actions that take less time than starting Python.

The protocol is Bazel's JSON one: a request per line on standard input, a response per line on standard output (Bazel,
"Creating Persistent Workers"). A front keeps nothing between requests.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn, TextIO

from mfbazel.errors import MfbazelError, run_front

Main = Callable[[Sequence[str] | None], int | None]
_FLAG = "--persistent_worker"


def run_worker_front(main: Main) -> NoReturn:
    """Run the front ``main``: as a worker where Bazel starts one, else as :func:`mfbazel.errors.run_front` does."""
    if _FLAG in sys.argv[1:]:
        serve(main, sys.stdin, sys.stdout)
        raise SystemExit(0)
    run_front(lambda: main(None))


def serve(main: Main, requests: TextIO, responses: TextIO) -> None:
    """Answer requests until there are no more.

    Args:
        main: the front; gets the arguments of each request.
        requests: lines of JSON, ``{"arguments": […], "requestId": N}``.
        responses: gets lines of JSON, ``{"exitCode": N, "output": "…", "requestId": N}``.
    """
    for line in requests:
        request = json.loads(line)
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            code = _exit_code(main, request.get("arguments", []))
        response = {"exitCode": code, "output": output.getvalue(), "requestId": request.get("requestId", 0)}
        responses.write(json.dumps(response) + "\n")
        responses.flush()


def _exit_code(main: Main, arguments: Sequence[str]) -> int:
    """Run the front; what would end a process ends the request."""
    try:
        return main(arguments) or 0
    except MfbazelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:
        traceback.print_exc()
        return 1
