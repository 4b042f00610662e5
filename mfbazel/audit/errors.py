"""Errors of the audit."""

from __future__ import annotations

from mfbazel.errors import MfbazelError


class AuditError(MfbazelError):
    """Advisories cannot be read, or an option names what is not in the lock."""
