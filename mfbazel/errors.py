"""The one family of errors that mfbazel raises on purpose."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn


class MfbazelError(Exception):
    """A failure that the user can act on.

    The message is complete: it says what happened, where (file, line, step, attribute and value) and what to do next. A
    command-line front prints it without a traceback.
    """


def fail(error: MfbazelError) -> NoReturn:
    """Print ``error`` on standard error, as a front does, and exit with 1."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(1)


def run_front(main: Callable[[], int | None]) -> NoReturn:
    """Run the front ``main`` and exit as every front of mfbazel does.

    Exit codes: what ``main`` returns (``None`` is 0), 1 for an :class:`MfbazelError`, 130 for an interruption.
    """
    try:
        raise SystemExit(main())
    except MfbazelError as error:
        fail(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
