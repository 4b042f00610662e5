"""The licence of a wheel, from the ``METADATA`` in it (core metadata specifications, PEP 639), as an SPDX expression
where that is sure."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from email.parser import HeaderParser

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

UNKNOWN = "unknown"
"""What flow.json says of a wheel that does not tell its licence."""

_METADATA = re.compile(r"[^/]+\.dist-info/METADATA")
_SHORT = 60
"""The field ``License`` held anything from a name to the whole text; names are no longer than this, in characters."""

_CLASSIFIERS = {
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
    "OSI Approved :: Apple Public Source License": "APSL-2.0",
    "OSI Approved :: Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "OSI Approved :: Common Development and Distribution License 1.0 (CDDL-1.0)": "CDDL-1.0",
    "OSI Approved :: Eclipse Public License 1.0 (EPL-1.0)": "EPL-1.0",
    "OSI Approved :: Eclipse Public License 2.0 (EPL-2.0)": "EPL-2.0",
    "OSI Approved :: European Union Public Licence 1.1 (EUPL 1.1)": "EUPL-1.1",
    "OSI Approved :: European Union Public Licence 1.2 (EUPL 1.2)": "EUPL-1.2",
    "OSI Approved :: GNU Affero General Public License v3": "AGPL-3.0-only",
    "OSI Approved :: GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "OSI Approved :: GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "OSI Approved :: GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "OSI Approved :: GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "OSI Approved :: GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "OSI Approved :: GNU Lesser General Public License v2 (LGPLv2)": "LGPL-2.0-only",
    "OSI Approved :: GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "OSI Approved :: GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "OSI Approved :: Historical Permission Notice and Disclaimer (HPND)": "HPND",
    "OSI Approved :: ISC License (ISCL)": "ISC",
    "OSI Approved :: MIT License": "MIT",
    "OSI Approved :: MIT No Attribution License (MIT-0)": "MIT-0",
    "OSI Approved :: Mozilla Public License 1.0 (MPL)": "MPL-1.0",
    "OSI Approved :: Mozilla Public License 1.1 (MPL 1.1)": "MPL-1.1",
    "OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "OSI Approved :: Mulan Permissive Software License v2 (MulanPSL-2.0)": "MulanPSL-2.0",
    "OSI Approved :: PostgreSQL License": "PostgreSQL",
    "OSI Approved :: Python Software Foundation License": "PSF-2.0",
    "OSI Approved :: The Unlicense (Unlicense)": "Unlicense",
    "OSI Approved :: Universal Permissive License (UPL)": "UPL-1.0",
    "OSI Approved :: University of Illinois/NCSA Open Source License": "NCSA",
    "OSI Approved :: Zero-Clause BSD (0BSD)": "0BSD",
    "OSI Approved :: zlib/libpng License": "Zlib",
}
"""Classifiers (without ``License ::``) that mean one licence; others, as ``BSD License``, stand for several."""

_TEXTS = {
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license v2.0": "Apache-2.0",
    "apache license version 2.0": "Apache-2.0",
    "apache software license 2.0": "Apache-2.0",
    "2-clause bsd": "BSD-2-Clause",
    "2-clause bsd license": "BSD-2-Clause",
    "bsd 2-clause": "BSD-2-Clause",
    "bsd 2-clause license": "BSD-2-Clause",
    "simplified bsd": "BSD-2-Clause",
    "3-clause bsd": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd 3 clause": "BSD-3-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "modified bsd": "BSD-3-Clause",
    "modified bsd license": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause",
    "new bsd license": "BSD-3-Clause",
    "isc license": "ISC",
    "mit license": "MIT",
    "mpl 2.0": "MPL-2.0",
    "mozilla public license 2.0": "MPL-2.0",
    "psf": "PSF-2.0",
    "psf license": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
}
"""What people write in the field ``License`` (lower case, without commas and a leading ``the``), where it is clear."""


_LONGEST = 4 << 20
"""Bytes of metadata that are read: a wheel is foreign input, and may unpack to anything."""


def license_of(archive: zipfile.ZipFile) -> str:
    """Return the licence of the wheel ``archive``: see :func:`license_in`; :data:`UNKNOWN` without metadata."""
    name = next((name for name in archive.namelist() if _METADATA.fullmatch(name)), None)
    if name is None:
        return UNKNOWN
    with archive.open(name) as file:
        return license_in(file.read(_LONGEST).decode("utf-8", "replace"))


def license_in(metadata: str) -> str:
    """Return the licence that the core metadata ``metadata`` names, in one line.

    The first that says something sure: ``License-Expression``; a single classifier that means one licence; the field
    ``License`` when it is an SPDX expression or a usual way to name one. These are given as a canonical expression
    (PEP 639). Else what is written, as it is: ``License-Expression``, the classifiers, a short ``License``. Else
    :data:`UNKNOWN`.
    """
    headers = HeaderParser().parsestr(metadata)
    expression, text = (str(headers.get(name) or "").strip() for name in ("License-Expression", "License"))
    classifiers = _license_classifiers([_one_line(str(value)) for value in headers.get_all("Classifier", [])])
    sure = _spdx(expression) or (_CLASSIFIERS.get(classifiers[0]) if len(classifiers) == 1 else None) or _of_text(text)
    if sure:
        return sure
    names = ", ".join(item.rpartition(" :: ")[2] for item in classifiers)
    short = text if len(text) <= _SHORT and "\n" not in text and text.lower() not in ("none", UNKNOWN) else ""
    return _one_line(expression) or names or _one_line(short) or UNKNOWN


def _license_classifiers(classifiers: Sequence[str]) -> list[str]:
    """Return the parts after ``License ::`` of those that name a licence."""
    licenses = [item.partition(" :: ")[2] for item in classifiers if item.startswith("License :: ")]
    return [item for item in dict.fromkeys(licenses) if item != "OSI Approved"]


def _spdx(text: str) -> str | None:
    try:
        return str(canonicalize_license_expression(text)) if text else None
    except InvalidLicenseExpression:
        return None


def _of_text(text: str) -> str | None:
    """Return the SPDX expression that the field ``License`` means by itself or, of a whole text, by its title."""
    title = next((line.strip() for line in text.splitlines() if line.strip()), "")
    plain = re.sub(r"\s+", " ", title.lower().replace(",", " ")).strip(" .").removeprefix("the ")
    return (_spdx(text) if "\n" not in text else None) or _TEXTS.get(plain) or None


def _one_line(text: str) -> str:
    return " ".join(text.split())
