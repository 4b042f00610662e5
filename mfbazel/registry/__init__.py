"""A client of OCI registries (OCI distribution-spec 1.1), on requests and the standard library alone.

It also runs where Metaflow launches a flow, which has nothing of mfbazel's tools.
"""

from mfbazel.registry.artifact import fetch_images, publish_images
from mfbazel.registry.client import Client, Descriptor
from mfbazel.registry.confirm import confirm
from mfbazel.registry.errors import Failure, Kind, Problem, RegistryError, Subject, explain
from mfbazel.registry.reference import Reference, parse_reference

__all__ = [
    "Client",
    "Descriptor",
    "Failure",
    "Kind",
    "Problem",
    "Reference",
    "RegistryError",
    "Subject",
    "confirm",
    "explain",
    "fetch_images",
    "parse_reference",
    "publish_images",
]
