"""Package URLs (purl specification) of wheels, their sources, and images."""

from __future__ import annotations

from packageurl import PackageURL

from mfbazel.lock.model import LockedWheel
from mfbazel.lock.origin import GIT, Source


def git_url(source: Source) -> str:
    """Return the URL of a commit as pip and SPDX write it: ``git+URL@COMMIT[#SUBDIRECTORY]``."""
    return f"git+{source.url}@{source.commit}" + (f"#{source.subdirectory}" if source.subdirectory else "")


def wheel_purl(wheel: LockedWheel) -> PackageURL:
    """Return ``pkg:pypi/NAME@VERSION``, with ``vcs_url`` where the wheel was built from a commit."""
    qualifiers = {"vcs_url": git_url(wheel.source)} if wheel.source and wheel.source.kind == GIT else {}
    return PackageURL("pypi", name=wheel.name, version=wheel.version, qualifiers=qualifiers)


def sdist_purl(wheel: LockedWheel, source: Source) -> PackageURL:
    """Return the purl of the sdist that ``wheel`` was built from."""
    return PackageURL("pypi", name=wheel.name, version=wheel.version, qualifiers={"file_name": source.file})


def image_purl(name: str, repository: str, digest: str, platform: str = "") -> PackageURL:
    """Return ``pkg:oci/NAME@DIGEST``.

    Args:
        name: of the image; its last part counts.
        repository: where it can be pulled from; may be empty.
        platform: ``os/architecture[/variant]``; empty for an index.
    """
    qualifiers = {"repository_url": repository} if repository else {}
    if platform:
        qualifiers["arch"] = platform.split("/")[1]
    return PackageURL("oci", name=name.rpartition("/")[2].lower(), version=digest, qualifiers=qualifiers)
