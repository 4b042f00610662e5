"""The inputs that fuzzing begins with."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent


def seeds() -> list[bytes]:
    """Return the inputs to begin with: those kept here, and the flows of the corpus."""
    files = [*sorted((HERE / "seeds").iterdir()), *sorted((HERE.parent / "corpus").rglob("*.py"))]
    return [file.read_bytes() for file in files] + [file.read_bytes() for file in crashers()]


def crashers() -> list[Path]:
    """Return the inputs that once made the reader fail."""
    return sorted(path for path in (HERE / "crashers").iterdir() if path.suffix == ".txt")
