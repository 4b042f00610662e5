"""What the maintainer scripts of a few Debian packages would do in a new system, as files of the base layer.

The scripts themselves are not run: they need a running system of the image's architecture, and what they do may change
with the machine. What is here is what programs in containers rely on; each part applies where its package is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from mfbazel.layer.tar import DIRECTORY, FILE, SYMLINK, Content, Entry

_CERTIFICATES = "usr/share/ca-certificates/"
_TEMPLATES = {
    "usr/share/base-passwd/passwd.master": "etc/passwd",
    "usr/share/base-passwd/group.master": "etc/group",
    "usr/share/base-files/profile": "etc/profile",
    "usr/share/base-files/motd": "etc/motd",
    "usr/share/base-files/dot.profile": "root/.profile",
    "usr/share/base-files/dot.bashrc": "root/.bashrc",
    "usr/share/libc-bin/nsswitch.conf": "etc/nsswitch.conf",
}
_DIRECTORIES = {
    **dict.fromkeys(
        ("etc/opt", "home", "media", "mnt", "opt", "run", "srv", "usr/local/bin", "usr/local/lib", "var/opt"), 0o755
    ),
    "root": 0o700,
    "run/lock": 0o1777,
    "tmp": 0o1777,
    "var/tmp": 0o1777,
}
_ALTERNATIVES = {
    "usr/bin/awk": ("usr/bin/gawk", "usr/bin/mawk", "usr/bin/original-awk"),
    "usr/bin/nawk": ("usr/bin/gawk", "usr/bin/mawk", "usr/bin/original-awk"),
    "usr/bin/which": ("usr/bin/which.gnu", "usr/bin/which.debianutils"),
    "usr/sbin/rmt": ("usr/sbin/rmt-tar",),
}
_LINKS = {"usr/share/zoneinfo/Etc/UTC": "etc/localtime", "etc/dpkg/origins/debian": "etc/dpkg/origins/default"}
_NSSWITCH = b"passwd: files\ngroup: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n"
MERGED = ("bin", "lib", "lib32", "lib64", "libo32", "libx32", "sbin")
"""Directories of the root that are links into ``/usr`` (Debian's merged /usr)."""

MOVED = {"var/run": "/run", "var/lock": "/run/lock"}
"""Directories that base-files replaces by links when it is set up."""

_OWNER = "mfbazel-base"


def is_template(path: str) -> bool:
    """Tell whether the content of a package's file is needed by :func:`generated`."""
    return path in _TEMPLATES or path.startswith(_CERTIFICATES)


def generated(paths: Mapping[str, bytes], templates: Mapping[str, bytes], python: str) -> Iterator[Entry]:
    """Yield the entries that setting up the packages adds, sorted by path, parents included.

    Args:
        paths: path → kind of everything that the packages hold.
        templates: path → content of those for which :func:`is_template` holds.
        python: version ``X.Y`` of the interpreter ``/usr/bin/pythonX.Y``.
    """
    made = {entry.path: entry for entry in _entries(paths, templates, python) if entry.path not in paths}
    for path in list(made):
        while path := path.rpartition("/")[0]:
            if path not in paths:
                made.setdefault(path, _directory(path, 0o755))
    yield from sorted(made.values(), key=lambda entry: entry.path)


def _entries(paths: Mapping[str, bytes], templates: Mapping[str, bytes], python: str) -> Iterator[Entry]:
    for path, mode in _DIRECTORIES.items():
        yield _directory(path, mode)
    for name in MERGED:
        if f"usr/{name}" in paths:
            yield _link(name, f"usr/{name}")
    for path, target in MOVED.items():
        yield _link(path, target)
    for template, path in _TEMPLATES.items():
        if template in templates:
            yield _file(path, templates[template])
    if "usr/share/libc-bin/nsswitch.conf" not in templates:
        yield _file("etc/nsswitch.conf", _NSSWITCH)
    for target, path in _LINKS.items():
        if target in paths:
            yield _link(path, f"/{target}" if path == "etc/localtime" else target.rpartition("/")[2])
    yield from _alternatives(paths)
    yield from _python(python)
    yield from _certificates(templates)


def _alternatives(paths: Mapping[str, bytes]) -> Iterator[Entry]:
    """Yield the links that update-alternatives makes, by way of ``/etc/alternatives``."""
    for link, candidates in _ALTERNATIVES.items():
        chosen = next((path for path in candidates if path in paths), None)
        if chosen and link not in paths:
            name = link.rpartition("/")[2]
            yield _link(f"etc/alternatives/{name}", f"/{chosen}")
            yield _link(link, f"/etc/alternatives/{name}")


def _python(python: str) -> Iterator[Entry]:
    """Yield names of the interpreter: Metaflow calls ``python``; official images have it in ``/usr/local/bin``."""
    for path in ("usr/bin/python", "usr/bin/python3"):
        yield _link(path, f"python{python}")
    for name in ("python", "python3", f"python{python}"):
        yield _link(f"usr/local/bin/{name}", f"/usr/bin/python{python}")


def _certificates(templates: Mapping[str, bytes]) -> Iterator[Entry]:
    """Yield what update-ca-certificates makes of all certificates: one file, which OpenSSL's ``cert.pem`` points to."""
    names = sorted(name for name in templates if name.startswith(_CERTIFICATES) and name.endswith(".crt"))
    if names:
        bundle = b"".join(templates[name].rstrip(b"\n") + b"\n" for name in names)
        yield _file("etc/ssl/certs/ca-certificates.crt", bundle)
        listed = "".join(f"{name.removeprefix(_CERTIFICATES)}\n" for name in names)
        yield _file("etc/ca-certificates.conf", listed.encode())


def status_paragraph(stanza: str) -> str:
    """Return a package's paragraph of ``/var/lib/dpkg/status``: its control paragraph with a ``Status``."""
    return re.sub(r"(?mi)^Package:.*$", r"\g<0>\nStatus: install ok installed", stanza, count=1)


def _directory(path: str, mode: int) -> Entry:
    return Entry(path, DIRECTORY, mode, owner=_OWNER)


def _link(path: str, target: str) -> Entry:
    return Entry(path, SYMLINK, 0o777, link=target, owner=_OWNER)


def _file(path: str, data: bytes) -> Entry:
    return Entry(path, FILE, 0o644, Content(data), owner=_OWNER)
