"""Standard output for people."""

from __future__ import annotations

from rich.console import Console

_UNWRAPPED = 1000


def make_console() -> Console:
    """Return a console for standard output: as wide as the terminal; nothing is wrapped in a file or a pipe."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_UNWRAPPED)
