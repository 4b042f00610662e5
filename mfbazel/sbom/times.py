"""The time that documents bear: the epoch, so that the same input gives the same bytes, or that of a stamped build."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from mfbazel.sbom.errors import SbomError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def stamped_time(status: Path) -> datetime:
    """Return ``BUILD_TIMESTAMP`` of a file in the format of Bazel's workspace status (``KEY VALUE`` lines).

    Raises:
        SbomError: the file lacks it, or cannot be read.
    """
    try:
        lines = status.read_text(encoding="utf-8").splitlines()
        values = dict(line.split(" ", 1) for line in lines if " " in line)
        return datetime.fromtimestamp(int(values["BUILD_TIMESTAMP"]), UTC)
    except (OSError, KeyError, ValueError, OverflowError) as error:
        raise SbomError(
            f"--status {status}: there is no usable BUILD_TIMESTAMP ({error!r}). Give the volatile status file of a "
            "build with --stamp, or leave the option out."
        ) from error


def rfc3339(time: datetime) -> str:
    """Return ``time`` (UTC) as SPDX, CycloneDX and SLSA write it, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
