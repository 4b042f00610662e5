"""Whether the licence of a distribution is allowed: SPDX licence expressions (SPDX 2.3, annex D; PEP 639).

``A OR B`` is allowed when one of the two is, ``A AND B`` when both are. What is no expression, ``BSD License`` of an
old wheel, is compared as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

_TOKEN = re.compile(r"\(|\)|[^\s()]+")


def accepts(licence: str, one: Callable[[str], bool]) -> bool:
    """Say whether ``licence`` is acceptable where ``one`` says it of a single licence, ``WITH`` an exception or not."""
    try:
        expression = canonicalize_license_expression(licence)
    except InvalidLicenseExpression:
        return one(licence)
    return _Expression(_TOKEN.findall(expression), one).value()


def takes_licence(entry: str, licence: str) -> bool:
    """Say whether ``entry`` means the single ``licence``, upper and lower case alike."""
    return fnmatchcase(licence.lower(), entry.lower())


class _Expression:
    """A recursive descent over the tokens: OR binds weaker than AND, AND weaker than WITH."""

    def __init__(self, tokens: list[str], one: Callable[[str], bool]) -> None:
        self._tokens = tokens[::-1]
        self._one = one

    def value(self) -> bool:
        found = self._conjunction()
        while self._take("OR"):
            found = self._conjunction() or found
        return found

    def _conjunction(self) -> bool:
        found = self._single()
        while self._take("AND"):
            found = self._single() and found
        return found

    def _single(self) -> bool:
        if self._take("("):
            found = self.value()
            self._take(")")
            return found
        name = self._tokens.pop()
        if self._take("WITH"):
            name = f"{name} WITH {self._tokens.pop()}"
        return self._one(name)

    def _take(self, token: str) -> bool:
        if self._tokens and self._tokens[-1] == token:
            self._tokens.pop()
            return True
        return False
