"""What must never be printed."""

from __future__ import annotations

import re

_SECRETS = (
    # The authority's userinfo (RFC 3986, 3.2.1).
    (re.compile(r"(?<=://)[^/\s@\"']+@"), "***@"),
    # Authorization headers (RFC 9110, 11.6.2).
    (re.compile(r"\b(Basic|Bearer)\s+[A-Za-z0-9._~+/=-]{8,}"), r"\1 ***"),
    # Query parameters of presigned and token addresses.
    (
        re.compile(
            r"([?&][^=&\s\"']*(?:sig|signature|token|secret|password|credential|key|policy)[^=&\s\"']*=)[^&\s\"']+",
            re.I,
        ),
        r"\1***",
    ),
    # Members of a JSON answer or of a docker configuration.
    (
        re.compile(
            r"(\"(?:auth|password|secret|token|access_token|refresh_token|identitytoken|registrytoken)\"\s*:\s*\")[^\"]+",
            re.I,
        ),
        r"\1***",
    ),
)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_LONGEST_QUOTE = 500  # characters


def redact(text: str) -> str:
    """Return ``text`` with credentials, tokens and signatures replaced by ``***``."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def quote(text: str) -> str:
    """Return what another program said, fit to stand in a message: one line, printable, without secrets, not long."""
    line = redact(_UNPRINTABLE.sub(" ", text)).strip()
    return line if len(line) <= _LONGEST_QUOTE else f"{line[:_LONGEST_QUOTE]}…"
