"""What an image says about itself: annotations and the time of creation."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mfbazel.image.errors import ImageError
from mfbazel.image.options import EPOCH
from mfbazel.image.templates import Stamp, expand, stamp_variables, variables

_OCI = "org.opencontainers.image."
SOURCE, REVISION, CREATED, BASE_DIGEST = (f"{_OCI}{name}" for name in ("source", "revision", "created", "base.digest"))
"""Annotation keys of the OCI image-spec ("Pre-Defined Annotation Keys")."""

FLOW, STEPS, LOCK = "mfbazel.flow", "mfbazel.steps", "mfbazel.lock"
"""The flow's target, its steps that run in the image (separated by commas), and the hash of the environment."""

_SOURCES = ("STABLE_GIT_URL", "STABLE_SCM_URL", "BUILD_SCM_REMOTE", "REPO_URL")
_REVISIONS = ("STABLE_GIT_COMMIT", "STABLE_SCM_REVISION", "BUILD_SCM_REVISION", "COMMIT_SHA")
_TIME = "BUILD_TIMESTAMP"


@dataclass(frozen=True)
class Subject:
    """What an image is made for.

    Attributes:
        label: of the flow's or the image's target, ``//package:name``.
        steps: that run in it; empty for an image without a flow.
        lock: hash of its environment, :meth:`mfbazel.image.lock.Lock.environments_hash`.
        platform: ``os/architecture``, ``None`` for an index.
        base: digest of the base image, ``None`` for an index.
    """

    label: str
    steps: Sequence[str]
    lock: str
    platform: str | None = None
    base: str | None = None

    def values(self) -> dict[str, str]:
        """Return what the names in templates stand for."""
        named = {"flow": flow_name(self.label), "lock": self.lock, "step": ",".join(self.steps)}
        return named | ({"platform": platform_slug(self.platform)} if self.platform else {})


def flow_name(label: str) -> str:
    """Return the name of the target of ``//package:name``."""
    return label.rpartition(":")[2]


def platform_slug(platform: str) -> str:
    """Return ``linux-amd64`` of ``linux/amd64``, which can stand in a tag."""
    return platform.replace("/", "-")


def image_annotations(subject: Subject, given: Mapping[str, str], stamp: Stamp) -> dict[str, str]:
    """Return the annotations of an image.

    Source, revision and time are those of the stamped build, and are left out of any other: the same content is the
    same image. What is ``given`` (templates allowed) comes last and wins; an empty value takes one away. One with a
    stamp variable is left out of other builds, and one with the platform is left out of an index.

    Raises:
        ImageError: a given value holds a name that is not known, or has several lines.
    """
    values: dict[str, str | None] = {
        SOURCE: stamp.first(_SOURCES),
        REVISION: stamp.first(_REVISIONS),
        CREATED: created(stamp) if stamp.values.get(_TIME) else None,
        BASE_DIGEST: subject.base,
        FLOW: subject.label,
        STEPS: ",".join(subject.steps),
        LOCK: subject.lock,
    }
    for key, template in given.items():
        if "\n" in template:
            raise ImageError(f"{subject.label}: annotation {key} has several lines: {template!r}; write it as one")
        if (stamp_variables(template) and not stamp.stamped) or (
            "platform" in variables(template) and not subject.platform
        ):
            values.pop(key, None)
            continue
        where = f"{subject.label}: annotation {key}"
        values[key] = expand(template, subject.values(), stamp, where, known=["platform"])
    return {key: value for key, value in sorted(values.items()) if value}


def created(stamp: Stamp) -> str:
    """Return the time of creation (RFC 3339): that of the stamped build, otherwise 1970-01-01.

    Raises:
        ImageError: the stamp variable ``BUILD_TIMESTAMP`` is no number of seconds.
    """
    text = stamp.values.get(_TIME)
    if not text:
        return EPOCH
    try:
        # Bazel writes milliseconds in old versions.
        seconds = int(text) // 1000 if len(text) > 11 else int(text)
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError) as error:
        raise ImageError(f"the stamp variable {_TIME} is {text!r}, not a number of seconds since 1970") from error
