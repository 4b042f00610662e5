"""What a failure of crane means for the user, and what to do about it."""

from __future__ import annotations

import re

from mfbazel.push.crane import CraneError
from mfbazel.push.errors import PushError
from mfbazel.push.layout import Layout, corrupted_blobs
from mfbazel.push.repository import Repository
from mfbazel.registry.errors import Kind, Subject, describe

# The first one that matches counts.
_KINDS = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (r"x509:|tls: |certificate", Kind.TLS),
        (r"server gave HTTP response to HTTPS client", Kind.PLAIN_HTTP),
        (
            r"dial tcp|connection (refused|reset)|no such host|i/o timeout|no route to host|network is unreachable|"
            r"broken pipe|EOF\b|proxyconnect|deadline exceeded",
            Kind.UNREACHABLE,
        ),
        (r"UNAUTHORIZED|status code 401", Kind.CREDENTIALS),
        (r"DENIED|status code 403", Kind.DENIED),
        (r"UNSUPPORTED|status code 405", Kind.READ_ONLY),
        (r"status code 413|SIZE_INVALID", Kind.TOO_LARGE),
        (r"TOOMANYREQUESTS|status code 429", Kind.RATE),
        (r"NAME_UNKNOWN|NOT_FOUND|status code 404", Kind.NO_REPOSITORY),
        (r"NAME_INVALID", Kind.NAME),
        (r"INTERNAL_SERVER_ERROR|INTERNAL_ERROR|status code 5\d\d", Kind.FAILED),
    )
)
_DIGEST_REFUSED = re.compile(
    r"DIGEST_INVALID|digest (mismatch|did not match|does not match)|error verifying", re.IGNORECASE
)


def explain(error: CraneError, doing: str, repository: Repository, layout: Layout | None = None) -> PushError:
    """Turn a failure of crane into an error that says what happened and what to do next.

    Args:
        error: the failure.
        doing: what was being done, e.g. ``pushing the image of the step 'train'``.
        repository: where to.
        layout: what was pushed; hashed to find a corrupted blob when the registry refused a digest.
    """
    if layout and _DIGEST_REFUSED.search(error.reason):
        return _digest_refused(error, doing, repository, layout)
    subject = Subject(repository.host, str(repository), doing, writes=True)
    for pattern, kind in _KINDS:
        if pattern.search(error.reason):
            happened, advice = describe(kind, subject)
            return PushError(f"{happened}, while {doing}. {advice} Nothing was recorded. crane: {error.reason}")
    return PushError(f"crane failed while {doing} to {repository}. Nothing was recorded. crane: {error.reason}")


def _digest_refused(error: CraneError, doing: str, repository: Repository, layout: Layout) -> PushError:
    """Name the blob whose bytes changed after the build."""
    for blob, found in corrupted_blobs(layout):
        return PushError(
            f"digest mismatch while {doing} to {repository}: the blob {blob.path} has the digest {found}, but its name "
            f"says {blob.digest}. The file was changed after the build; build the image again (if Bazel does not, "
            "remove the file from its output or disk cache). Nothing was recorded."
        )
    return PushError(
        f"the registry {repository.host} found another digest than was announced, while {doing}, although the layout "
        f"{layout.path} is whole: something on the way changes the data. Nothing was recorded. crane: {error.reason}"
    )
