"""What can go wrong with a registry, what it means for the user, and what to do about it.

Failures of pushes, of launches and of signing are told in the same words.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mfbazel.errors import MfbazelError
from mfbazel.registry.redaction import quote

INSECURE_VARIABLE = "MFBAZEL_INSECURE_REGISTRIES"
"""Environment variable: hosts, separated by commas, that may be spoken to without TLS or a verifiable certificate."""

CREDENTIALS = (
    "Credentials are looked for in $DOCKER_CONFIG/config.json, ~/.docker/config.json (including credHelpers and "
    "credsStore), $REGISTRY_AUTH_FILE and $XDG_RUNTIME_DIR/containers/auth.json"
)
_LOG_IN = "`docker login {host}`, `podman login {host}` or `crane auth login {host}`"
_INSECURE = f"For a registry that you trust, pass --insecure to the push, or name it in {INSECURE_VARIABLE}."


class Kind(Enum):
    """A kind of failure: what happened, and what to do next.

    ``{host}``, ``{repository}`` and ``{access}`` (``read``, ``push to``) are filled in.
    """

    TLS = (
        "no TLS connection to the registry {host}",
        "Add the registry's certificate authority to the system's certificates (or SSL_CERT_FILE). " + _INSECURE,
    )
    CLOCK = (
        "no TLS connection to the registry {host}: by the clock of this machine its certificate is not valid now",
        "Set the clock if it is wrong; otherwise the registry needs a new certificate. " + _INSECURE,
    )
    PLAIN_HTTP = ("the registry {host} speaks plain HTTP where TLS was expected", _INSECURE)
    UNREACHABLE = (
        "the registry {host} cannot be reached",
        "Check the name and the port, that the registry runs, and the proxy settings (HTTPS_PROXY, NO_PROXY).",
    )
    TIMEOUT = (
        "the registry {host} did not answer in time",
        "Try again, or look whether the registry, or a proxy before it, hangs.",
    )
    CREDENTIALS = (
        "the registry {host} wants credentials for {repository} and refused those it got, or got none (401)",
        f"{CREDENTIALS}. Log in with {_LOG_IN}.",
    )
    DENIED = (
        "the registry {host} does not let you {access} {repository} (403)",
        f"{CREDENTIALS}. Ask for the right, or log in as someone else with {_LOG_IN}.",
    )
    READ_ONLY = (
        "the registry {host} takes no uploads to {repository} (405): it is read-only or a mirror",
        "Name a repository of a registry that takes pushes.",
    )
    TOO_LARGE = (
        "the registry {host}, or a proxy before it, refuses uploads of this size (413)",
        "Raise the limit of the body's size there, or plan smaller layers.",
    )
    RATE = (
        "the registry {host} limits the rate of requests (429)",
        "Wait a while and try again: what was sent is not sent again.",
    )
    NO_REPOSITORY = (
        "the registry {host} has no repository {repository} (404)",
        "Some registries want a repository to be made before the first push; make it, or correct the name.",
    )
    MISSING = (
        "the registry {host} does not have {repository} (404)",
        "Push it, or correct the name.",
    )
    NAME = (
        "the registry {host} does not accept the name {repository}",
        "Choose a name that this registry allows; some want a project as the first component.",
    )
    FAILED = (
        "the registry {host} failed while it answered",
        "Look at the registry's log and disk, then try again: what was sent is not sent again.",
    )
    REFUSED = ("the registry {host} refused a request about {repository}", "Look at the registry's log.")
    DIGEST = (
        "the registry {host} has other bytes of {repository} than their digest says",
        "Something on the way changes the data, or the registry's storage is damaged: push again, or look at its log.",
    )
    MALFORMED = (
        "{host} does not answer as the OCI distribution specification says",
        "Check that the host is a registry, and not a web page or a proxy's login.",
    )
    OTHER_CONTENT = (
        "{repository} holds no images.json",
        "Name the artifact that a push of mfbazel printed, not one of the images.",
    )
    REFERENCE = ("{repository} is no reference", "A reference is host[:port]/path:tag or host[:port]/path@sha256:….")
    SETTINGS = ("the credentials for {host} cannot be read", "Correct the file, or log in again.")

    def __repr__(self) -> str:
        return f"Kind.{self.name}"

    @property
    def happened(self) -> str:
        """What happened, as a template."""
        return str(self.value[0])

    @property
    def next(self) -> str:
        """What to do next, as a template."""
        return str(self.value[1])


@dataclass(frozen=True)
class Subject:
    """What a request was about.

    Attributes:
        host: the registry.
        name: the repository or the reference, for people.
        doing: what was being done, e.g. ``reading the manifest``; may be empty.
        writes: whether it was to change the repository.
    """

    host: str
    name: str
    doing: str = ""
    writes: bool = False


@dataclass(frozen=True)
class Problem:
    """Why something about a registry failed.

    Attributes:
        kind: the kind of failure.
        message: all of it, for people: what happened, where, what the registry said, what to do next.
        said: what was being done, and the registry's own words, to be told again in a wider context.
    """

    kind: Kind
    message: str
    said: str = ""

    def __str__(self) -> str:
        return self.message


class RegistryError(MfbazelError):
    """A registry cannot be reached, refuses, or has something else than was asked for.

    Attributes:
        problem: what it is.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.message)


class Failure(Exception):
    """A failure below the client, which knows what it was about and makes a :class:`RegistryError` of it.

    Attributes:
        kind: the kind of failure.
        detail: the registry's or the operating system's own words; no secrets are in it.
        status: the HTTP status of the answer, ``None`` without one.
        pause: seconds that the registry asks to wait before the next request.
    """

    def __init__(self, kind: Kind, detail: str = "", status: int | None = None, pause: float = 0.0) -> None:
        self.kind = kind
        self.detail = quote(detail)
        self.status = status
        self.pause = pause
        super().__init__(self.detail)


def explain(failure: Failure, subject: Subject) -> RegistryError:
    """Say what ``failure`` means for ``subject``."""
    happened, advice = describe(failure.kind, subject)
    doing = f", while {subject.doing}" if subject.doing else ""
    said = f" ({failure.detail})" if failure.detail else ""
    what = f"{subject.doing} {subject.name}" if subject.doing else subject.name
    told = f"{what}: {failure.detail}" if failure.detail else what
    return RegistryError(Problem(failure.kind, f"{happened}{doing}{said}. {advice}", told))


def describe(kind: Kind, subject: Subject) -> tuple[str, str]:
    """Return what happened, and what to do next, in sentences."""
    access = "push to" if subject.writes else "read"
    happened, advice = (
        text.format(host=subject.host, repository=subject.name, access=access) for text in (kind.happened, kind.next)
    )
    return happened, advice
