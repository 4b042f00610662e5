"""Run the command whose words stand in a file, one per line; further arguments are appended."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    words = [*Path(sys.argv[1]).read_text().splitlines(), *sys.argv[2:]]
    try:
        os.execvp(words[0], words)
    except OSError as error:
        raise SystemExit(f"error: {words[0]} cannot be run: {error.strerror}. Is it installed and on PATH?") from None
