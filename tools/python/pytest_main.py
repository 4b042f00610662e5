"""Runs pytest on the files that a Bazel test target names, with the filters and the report that Bazel asks for."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

if __name__ == "__main__":
    arguments = [
        "--rootdir=.",
        "--confcutdir=.",
        "--import-mode=importlib",
        "-c",
        "pyproject.toml",
        "-p",
        "no:cacheprovider",
        "--color=no",
    ]
    if report := os.environ.get("XML_OUTPUT_FILE"):
        arguments.append(f"--junitxml={report}")
    if pattern := os.environ.get("TESTBRIDGE_TEST_ONLY"):
        arguments += ["-k", pattern]
    if temporary := os.environ.get("TEST_TMPDIR"):
        arguments.append(f"--basetemp={Path(temporary) / 'pytest'}")
        os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(Path(temporary) / "hypothesis"))
    raise SystemExit(pytest.main([*arguments, *sys.argv[1:]]))
