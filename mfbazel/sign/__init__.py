"""Signatures of images, and documents attached to them: signers by entry point, SBOMs and provenance as referrers."""

from mfbazel.sign.attach import Item, Outcome, attach
from mfbazel.sign.documents import Document, parse_document, read_document
from mfbazel.sign.errors import SignError, UnsignedError
from mfbazel.sign.marks import Marks
from mfbazel.sign.referrers import list_referrers
from mfbazel.sign.signer import GROUP, Signer, SignerFactory, Signing, load_signer
from mfbazel.sign.target import Target, target

__all__ = [
    "Document",
    "GROUP",
    "Item",
    "Marks",
    "Outcome",
    "SignError",
    "Signer",
    "SignerFactory",
    "Signing",
    "Target",
    "UnsignedError",
    "attach",
    "list_referrers",
    "load_signer",
    "parse_document",
    "read_document",
    "target",
]
