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


def printable(text: str) -> str:
    """Return ``text`` with control characters other than line ends and tabs written out: what foreign input holds must
    not move a terminal's cursor, clear it or name its window."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode() for char in text
    )


def fail(error: MfbazelError) -> NoReturn:
    """Print ``error`` on standard error, as a front does, and exit with 1."""
    print(f"error: {printable(str(error))}", file=sys.stderr)
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
