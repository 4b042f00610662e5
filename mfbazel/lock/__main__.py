"""``python -m mfbazel.lock``."""

from __future__ import annotations

from mfbazel.errors import run_front


def main() -> int:
    """Run the command line; return the exit code."""
    # Here, since an interruption while this is imported is one like any other.
    from mfbazel.lock.cli import main as command

    return command()


run_front(main)
