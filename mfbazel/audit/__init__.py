"""Auditing a lock: the licence of every package, and the advisories that apply to it.

``python -m mfbazel.audit --lock-dir DIR --advisories FILE`` prints tables; ``--json`` the same for machines. Nothing is
asked of the network: licences are in the lock, advisories (OSV format) are the user's.
"""

from __future__ import annotations

from mfbazel.audit.database import Database, read_database
from mfbazel.audit.errors import AuditError
from mfbazel.audit.report import Finding, Package, Report, audit

__all__ = ["AuditError", "Database", "Finding", "Package", "Report", "audit", "read_database"]
