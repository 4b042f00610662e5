"""The licences that a lock names, as SPDX license expressions where they are some."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass

from license_expression import ExpressionError, LicenseExpression, Licensing, ParseError, get_spdx_licensing

_REFERENCE = re.compile(r"LicenseRef-[A-Za-z0-9.-]+")
_SLUG = 40
"""The longest part of a text, in characters, that an identifier repeats."""


@dataclass(frozen=True)
class License:
    """What a wheel says of its licence.

    Attributes:
        text: as it is written; not empty.
        expression: ``text`` as an SPDX license expression (SPDX 2.3, annex D); ``None`` when it is none.
        references: the licences in the expression that no list has: ``LicenseRef-…``.
    """

    text: str
    expression: LicenseExpression | None
    references: tuple[str, ...] = ()

    @property
    def identifier(self) -> str:
        """A ``LicenseRef-…`` that stands for a text which is no expression."""
        slug = re.sub(r"[^A-Za-z0-9.]+", "-", self.text)[:_SLUG].strip("-.")
        return "-".join(filter(None, ["LicenseRef", slug, hashlib.sha256(self.text.encode()).hexdigest()[:8]]))


@functools.cache
def _licensing() -> Licensing:
    return get_spdx_licensing()


@functools.cache
def read_license(text: str) -> License | None:
    """Read what a lock says; ``None`` when it says nothing."""
    if not text.strip():
        return None
    try:
        expression = _licensing().parse(text, strict=True)
    except (ExpressionError, ParseError):
        return License(text, None)
    unlisted = set(_licensing().unknown_license_keys(expression))
    if not all(_REFERENCE.fullmatch(key) for key in unlisted):
        return License(text, None)
    keys = {str(symbol.key) for symbol in _licensing().license_symbols(expression, decompose=True)}
    return License(text, expression, tuple(sorted(key for key in keys if key.startswith("LicenseRef-"))))
