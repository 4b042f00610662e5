"""Downloads one sdist with pip, and does nothing with it: ``pip_sdist.py NAME FILE SHA256 DIRECTORY``.

``pip download`` runs the code of an sdist to ask for its metadata, and pip has no command that does not. So this asks
pip's own finder and downloader, which bring the user's whole configuration: indexes, links, credentials, keyring,
certificates and proxies. Run as a script by an interpreter that has pip, 22 or newer.

Exit codes: 0; 3: no index has the file; 4: the file that an index has is another one (its sha256 is printed as
``Got HEX``); 1: everything else, as pip says. It is verbose, as only then pip says that an index cannot be asked.
"""

# mypy: disable-error-code="no-untyped-call, attr-defined, misc, import-not-found, import-untyped, unused-ignore"

from __future__ import annotations

import shutil
import sys
from typing import Any

from pip._internal.commands.download import DownloadCommand
from pip._internal.network.download import Downloader

ABSENT, DIFFERENT = 3, 4


class _Fetch(DownloadCommand):  # type: ignore[misc]
    """``pip download``, with all of its options and configuration, for one file."""

    def run(self, options: Any, arguments: list[str]) -> int:
        name, file, sha256, directory = arguments
        session = self.get_default_session(options)
        finder = self._build_package_finder(options=options, session=session, ignore_requires_python=True)
        links = [candidate.link for candidate in finder.find_all_candidates(name) if candidate.link.filename == file]
        if not links:
            return ABSENT
        right = [link for link in links if _sha256(link) in (None, sha256)]
        if not right:
            print(f"Got {_sha256(links[0])}")
            return DIFFERENT
        # One whose hash the index names first.
        link = min(right, key=lambda link: _sha256(link) is None)
        if link.is_file:
            shutil.copyfile(link.file_path, f"{directory}/{file}")
        else:
            Downloader(session, "off")(link, directory)
        return 0


def _sha256(link: Any) -> str | None:
    return str(link.hash) if link.hash_name == "sha256" and link.hash else None


if __name__ == "__main__":
    _options = ["-vv", "--no-deps", "--no-input", "--no-binary", ":all:", "--only-binary", ":none:"]
    sys.exit(_Fetch("download", "Download one sdist.").main([*_options, *sys.argv[1:]]))
