"""The errors of the push, and what must never be printed in one."""

from __future__ import annotations

import re

from mfbazel.errors import MfbazelError

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
            r"(\"(?:auth|password|secret|token|access_token|identitytoken|registrytoken)\"\s*:\s*\")[^\"]+", re.I
        ),
        r"\1***",
    ),
)


class PushError(MfbazelError):
    """Images could not be pushed or loaded; nothing was recorded."""


def redact(text: str) -> str:
    """Return ``text`` with credentials, tokens and signatures replaced by ``***``."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text
