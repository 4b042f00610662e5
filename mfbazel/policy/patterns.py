"""How the entries of a policy are compared with what they are about."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from packaging.specifiers import InvalidSpecifier, SpecifierSet

_PACKAGE = re.compile(r"\s*([A-Za-z0-9*?][A-Za-z0-9._*?-]*)\s*(.*)")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MODULE_REPOSITORY = re.compile(r"[~+]")


@dataclass(frozen=True)
class PackagePattern:
    """Distributions by name (``*`` and ``?`` allowed) and version (PEP 440)."""

    text: str
    name: str
    """Normalized (PEP 503), but for its wildcards."""
    versions: SpecifierSet

    @classmethod
    def parse(cls, text: str) -> PackagePattern:
        """Read ``nvidia-*`` or ``numpy>=2``.

        Raises:
            ValueError: it is neither; the message says so.
        """
        match = _PACKAGE.fullmatch(text)
        try:
            if match:
                name = re.sub(r"[-_.]+", "-", match[1]).lower()
                return cls(text, name, SpecifierSet(match[2]))
        except InvalidSpecifier:
            pass
        raise ValueError(f"'{text}' is no name of a package with or without versions, as `numpy>=2` or `nvidia-*`")

    def takes(self, name: str, version: str) -> bool:
        """Say whether the distribution with this normalized ``name`` is meant."""
        return fnmatchcase(name, self.name) and self.versions.contains(version, prereleases=True)


def parse_digest(text: str) -> str:
    """Return the digest ``text``, ``sha256:`` and 64 hex digits (OCI image-spec, "Digests").

    Raises:
        ValueError: it is something else.
    """
    if not _DIGEST.fullmatch(text):
        raise ValueError(f"'{text}' is no digest: sha256: and 64 hexadecimal digits are")
    return text


def takes_location(entry: str, location: str) -> bool:
    """Say whether ``entry`` means ``location``, a URL or a repository: the same, or one below it.

    A wildcard stands for no more than what is between two slashes: no path looks like another host. A host is the same
    in upper case, and with the port that it has anyway.
    """
    wanted, found = _components(entry), _components(location)
    return len(wanted) <= len(found) and all(map(fnmatchcase, found, wanted))


def _components(location: str) -> list[str]:
    """Return what is between the slashes of a URL or a repository; of the host one way of writing it."""
    parts = location.rstrip("/").split("/")
    at = 2 if location.startswith(("https://", "http://")) else 0
    if len(parts) > at and ("." in parts[at] or ":" in parts[at]):
        parts[at] = parts[at].lower()
        if not location.startswith("http://"):
            parts[at] = parts[at].removesuffix(":443")
    return parts


def takes_label(entry: str, label: str) -> bool:
    """Say whether ``entry`` means the target ``label`` (as :func:`short_label` writes it)."""
    return fnmatchcase(label, short_label(entry))


def short_label(label: str) -> str:
    """Return a label as a BUILD file of the root module would write it: ``@python_base`` for
    ``@@rules_oci~2.3~oci~python_base//:python_base``."""
    repository, slashes, target = label.removeprefix("@").removeprefix("@").partition("//")
    name = _MODULE_REPOSITORY.split(repository)[-1]
    if not slashes:
        return f"@{name}" if label.startswith("@") else label
    package, _, own = target.partition(":")
    own = own or package.rpartition("/")[2]
    if not name:
        return f"//{package}:{own}"
    return f"@{name}" if not package and own == name else f"@{name}//{package}:{own}"
