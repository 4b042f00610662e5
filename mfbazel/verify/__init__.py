"""Checks what is deployed of a flow: digests, blobs, signatures, SBOMs and provenance."""

from mfbazel.verify.check import Check, Status
from mfbazel.verify.checks import verify
from mfbazel.verify.deployed import Deployed, read_deployed
from mfbazel.verify.errors import VerifyError
from mfbazel.verify.wish import Wish

__all__ = ["Check", "Deployed", "Status", "VerifyError", "Wish", "read_deployed", "verify"]
