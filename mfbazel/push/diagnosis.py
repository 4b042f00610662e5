"""What a failure of crane means for the user, and what to do about it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mfbazel.push.crane import CraneError
from mfbazel.push.errors import PushError
from mfbazel.push.layout import Layout, corrupted_blobs
from mfbazel.push.repository import Repository

CREDENTIALS = (
    "crane looks for credentials in $DOCKER_CONFIG/config.json, ~/.docker/config.json (including its credHelpers and "
    "credsStore), $REGISTRY_AUTH_FILE and $XDG_RUNTIME_DIR/containers/auth.json"
)


@dataclass(frozen=True)
class _Rule:
    """A kind of failure: ``pattern`` in crane's message, what ``happened``, and what to do ``next``."""

    pattern: re.Pattern[str]
    happened: str
    next: str


def _rule(pattern: str, happened: str, next_step: str) -> _Rule:
    return _Rule(re.compile(pattern), happened, next_step)


# The first one that matches counts. {host} and {repository} are filled in.
_RULES = (
    _rule(
        r"x509:|tls: |certificate",
        "no TLS connection to the registry {host}",
        "Add the registry's certificate authority to the system's certificates (or SSL_CERT_FILE), or pass --insecure "
        "for a registry that you trust.",
    ),
    _rule(
        r"server gave HTTP response to HTTPS client",
        "the registry {host} speaks plain HTTP where TLS was expected",
        "Pass --insecure for a registry that you trust.",
    ),
    _rule(
        r"dial tcp|connection (refused|reset)|no such host|i/o timeout|no route to host|network is unreachable|"
        r"broken pipe|EOF\b|proxyconnect|deadline exceeded",
        "the registry {host} cannot be reached",
        "Check the name and the port, that the registry runs, and the proxy settings (HTTPS_PROXY, NO_PROXY).",
    ),
    _rule(
        r"UNAUTHORIZED|status code 401",
        "the registry {host} wants credentials for {repository} and refused those it got, or got none (401)",
        CREDENTIALS + ". Log in with `crane auth login {host}`.",
    ),
    _rule(
        r"DENIED|status code 403",
        "the registry {host} does not let you push to {repository} (403)",
        CREDENTIALS + ". Ask for the right to push, or log in as someone else with `crane auth login {host}`.",
    ),
    _rule(
        r"UNSUPPORTED|status code 405",
        "the registry {host} takes no uploads to {repository} (405): it is read-only or a mirror",
        "Name a repository of a registry that takes pushes.",
    ),
    _rule(
        r"status code 413|SIZE_INVALID",
        "the registry {host}, or a proxy before it, refuses uploads of this size (413)",
        "Raise the limit of the body's size there, or plan smaller layers.",
    ),
    _rule(
        r"TOOMANYREQUESTS|status code 429",
        "the registry {host} limits the rate of requests (429)",
        "Wait a while and push again: what was sent is not sent again.",
    ),
    _rule(
        r"NAME_UNKNOWN|NOT_FOUND|status code 404",
        "the registry {host} has no repository {repository} (404)",
        "Some registries want a repository to be made before the first push; make it, or correct the name.",
    ),
    _rule(
        r"NAME_INVALID",
        "the registry {host} does not accept the name {repository}",
        "Choose a name that this registry allows; some want a project as the first component.",
    ),
    _rule(
        r"INTERNAL_SERVER_ERROR|INTERNAL_ERROR|status code 5\d\d",
        "the registry {host} failed while it answered",
        "Look at the registry's log and disk, then push again: what was sent is not sent again.",
    ),
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
    for rule in _RULES:
        if rule.pattern.search(error.reason):
            happened, advice = (
                text.format(host=repository.host, repository=repository) for text in (rule.happened, rule.next)
            )
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
