"""Auditing a flow: the licence of every locked package, the advisories that apply to it, and the layers of its images.

``python -m mfbazel.audit --lock-dir DIR --advisories FILE`` prints tables; ``--json`` the same for machines. Nothing is
asked of the network: licences are in the lock, advisories (OSV format) are the user's. ``--layers`` looks into the
step images for secrets and for files that are setuid or writable for all.
"""

from __future__ import annotations

from mfbazel.audit.database import Database, read_database
from mfbazel.audit.errors import AuditError
from mfbazel.audit.report import Finding, Package, Report, audit

__all__ = ["AuditError", "Database", "Finding", "Package", "Report", "audit", "read_database"]
