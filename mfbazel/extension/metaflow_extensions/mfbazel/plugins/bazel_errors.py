"""What the extension raises; Metaflow prints the headline and the message, without a traceback."""

from __future__ import annotations

from metaflow.exception import MetaflowException


class BazelException(MetaflowException):  # type: ignore[misc]
    """Anything wrong with the environment ``bazel``; the message says what to do next."""

    headline = "Bazel environment"


class UnsupportedMetaflowException(BazelException):
    """This Metaflow is older than what the extension works with."""

    headline = "Metaflow is too old"


class NotStartedByBazelException(BazelException):
    """Nothing says which lock the flow has."""

    headline = "Flow not started by Bazel"


class UnreadableFileException(BazelException):
    """``flow.json`` or ``images.json`` is damaged, or another version's."""

    headline = "Unreadable file"


class StaleLockException(BazelException):
    """The code declares something else than what was locked."""

    headline = "Stale lock"


class DependenciesException(BazelException):
    """A step declares packages twice, for two package managers, or something that is no package."""

    headline = "Wrong dependencies"


class NotPushedException(BazelException):
    """A step that runs in a container has no image."""

    headline = "Image not pushed"


class StaleImageException(BazelException):
    """The image of a step was made from an older lock."""

    headline = "Stale image"


class MissingImageException(BazelException):
    """A registry does not have the image of a step."""

    headline = "Image not in the registry"


class UnverifiedImageException(BazelException):
    """A registry does not say whether it has the image of a step."""

    headline = "Registry does not answer for an image"


class PushFailedException(BazelException):
    """The push that was to precede the run failed."""

    headline = "Push failed"


class MissingInterpreterException(BazelException):
    """A step that runs on this machine has no interpreter with its packages."""

    headline = "No interpreter for a step"


class NotAllowedException(BazelException):
    """The policy of the repository does not allow something."""

    headline = "Not allowed"


class ContainerException(BazelException):
    """A step cannot run in a container on this machine."""

    headline = "No container for a step"
