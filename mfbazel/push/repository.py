"""Names of repositories in a registry: ``host[:port]/path``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mfbazel.push.errors import PushError
from mfbazel.registry.reference import COMPONENT, HOST, LONGEST_NAME, TAG

# crane wants two characters in the path.
_SHORTEST_PATH = 2
_ALLOWED = (
    "A repository is host[:port]/path; each component of the path consists of lowercase letters and digits, separated "
    "by one '.', one or two '_', or '-' (for example registry.example.com/ml/churn)."
)


@dataclass(frozen=True)
class Repository:
    """A repository: ``host`` (with the port, if any) and ``path``, both valid."""

    host: str
    path: str

    def __str__(self) -> str:
        return f"{self.host}/{self.path}"

    def by_digest(self, digest: str) -> str:
        """Return the reference of the image with this digest."""
        return f"{self}@{digest}"


def parse_repository(value: str, origin: str) -> Repository:
    """Check ``value`` and split it.

    Args:
        value: what the user wrote, e.g. ``registry.example.com:5000/ml/churn``.
        origin: where it was written, for messages, e.g. ``the attribute `repository` of //ml:churn``.

    Raises:
        PushError: ``value`` does not follow the OCI distribution specification, names a tag or a digest, or has no
    host."""
    problem = _problem(value)
    if problem:
        raise PushError(f"the repository name {_shown(value)!r} is invalid ({origin}): {problem} {_ALLOWED}")
    host, _, path = value.partition("/")
    return Repository(host, path)


def parse_tag(value: str, origin: str) -> str:
    """Return ``value`` when it is a tag.

    Raises:
        PushError: it is none; ``origin`` says where it was written.
    """
    if not TAG.fullmatch(value):
        raise PushError(
            f"the tag {value!r} is invalid ({origin}): a tag has at most 128 letters, digits, '_', '.' and '-', and "
            "starts with a letter, a digit or '_'."
        )
    return value


def clean_path(*parts: str) -> str:
    """Make a valid repository path out of arbitrary text, e.g. a Bazel package and a name.

    Uppercase becomes lowercase; what the grammar forbids becomes ``-``; empty components disappear.
    """
    components = [re.sub(r"[^a-z0-9]*$|^[^a-z0-9]*", "", _cleaned(part)) for part in "/".join(parts).split("/")]
    path = "/".join(component for component in components if component)
    return path if len(path) >= _SHORTEST_PATH else f"flow-{path or 'unnamed'}"


def _cleaned(text: str) -> str:
    """Replace every run of characters that is not a separator of the grammar."""
    return re.sub(r"[^a-z0-9]+", lambda run: run[0] if re.fullmatch(r"\.|_|__|-+", run[0]) else "-", text.lower())


def _problem(value: str) -> str | None:
    """Say what is wrong with ``value``, with advice; ``None`` when nothing is."""
    if not value or value != value.strip():
        return "it is empty or has blanks around it."
    if "://" in value:
        return "it holds a scheme; leave out everything up to and including '://' (use --insecure for plain HTTP)."
    if "@" in value:
        return _problem_of_at(value)
    host, slash, path = value.partition("/")
    return _problem_of_host(host, slash) or _problem_of_path(path, value)


def _problem_of_at(value: str) -> str:
    """Say what is wrong with a value that holds an ``@``."""
    if re.search(r"@[a-z0-9+._-]+:[0-9a-fA-F]*$", value):
        return "it holds a digest; leave out '@' and what follows, since mfbazel adds each image's digest itself."
    return "it holds credentials or a stray '@'; log in with `crane auth login` and leave them out of the name."


def _problem_of_host(host: str, slash: str) -> str | None:
    """Check the first component."""
    match = HOST.fullmatch(host)
    if "." not in host and ":" not in host:  # crane would take it for a path on its default registry
        return f"it has no host: {host!r} has neither a '.' nor a port (write localhost:443 where port 443 is meant)."
    if not slash:
        return "the path after the host is missing."
    if not match:
        return f"{host!r} is not a host, optionally with a port."
    if match["port"] and not 0 < int(match["port"]) < 65536:
        return f"{match['port']} is not a port."
    return None


def _problem_of_path(path: str, value: str) -> str | None:
    """Check what follows the host."""
    last = path.rpartition("/")[2]
    if ":" in last:
        return (
            f"it holds the tag {last.partition(':')[2]!r}; leave it out and use --tag on the command line of the push."
        )
    for component in path.split("/"):
        if component != component.lower():
            return f"{component!r} has uppercase letters; write {component.lower()!r}."
        if not COMPONENT.fullmatch(component):
            return f"the component {component!r} is not allowed."
    if len(path) < _SHORTEST_PATH:
        return f"the path {path!r} has one character, and crane, which pushes, wants two at least."
    if len(value) > LONGEST_NAME:
        return f"it has {len(value)} characters, and clients take {LONGEST_NAME} at most."
    return None


def _shown(value: str) -> str:
    """Return ``value`` for a message: without what may be a user name and a password."""
    before, at, after = value.rpartition("@")
    if at and not re.fullmatch(r"[a-z0-9+._-]+:[0-9a-fA-F]*", after):
        scheme = before.partition("://")[0] + "://" if "://" in before else ""
        return f"{scheme}***@{after}"
    return value
